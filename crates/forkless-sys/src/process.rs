//! Processes: descriptors, starting programs, reaping, signals.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt::{Display, Formatter};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use crate::{last_error, proc};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned or called `_exit` with this code, 0 to 255.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
}

impl ExitStatus {
    /// Whether it returned with exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// From the word that `waitpid(2)` fills in.
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled((libc::WTERMSIG(status) & 0x7f) as u8)
        } else {
            Self::Exited((libc::WEXITSTATUS(status) & 0xff) as u8)
        }
    }

    /// As Python has it: the exit code, or the signal's number, negative.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code),
            Self::Signaled(signal) => -i32::from(signal),
        }
    }

    /// Back from [`Self::code`]; `None` for what no process can end with.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        if code >= 0 { u8::try_from(code).ok().map(Self::Exited) } else { u8::try_from(-code).ok().map(Self::Signaled) }
    }
}

/// As messages have it: `exit code 3`, `SIGKILL`.
impl Display for ExitStatus {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit code {code}"),
            Self::Signaled(signal) => formatter.write_str(&signal_name(*signal)),
        }
    }
}

/// The calling process's id.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// The parent's id; it changes when the parent ends.
#[must_use]
pub fn parent_id() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// How many threads of this process can run at the same time, as affinity and control groups have it.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The user and the group that a process acts as.
pub type User = (u32, u32);

/// This process's effective user and group.
#[must_use]
pub fn user() -> User {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The system's number of the calling thread.
#[must_use]
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Whether the caller is its process's first thread.
#[must_use]
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// The processor that the caller runs on, at this moment.
#[must_use]
pub fn current_processor() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// A descriptor for a process ([`pidfd_open(2)`]): it never comes to mean another process with the same number.
///
/// # Errors
/// `ESRCH` if there is no such process, `EMFILE` without descriptors.
///
/// [`pidfd_open(2)`]: https://man7.org/linux/man-pages/man2/pidfd_open.2.html
pub fn open(pid: u32) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_open(to_pid(pid)?, PidfdFlags::empty()).and_then(crate::above_standard)
}

/// Whether the process has ended (reaped or not).
#[must_use]
pub fn ended(process: BorrowedFd<'_>) -> bool {
    readable(&[process], Duration::ZERO).is_ok_and(|ready| ready[0])
}

/// Which descriptors are readable or hung up, waiting at most `timeout` for the first.
///
/// # Errors
/// `EINTR` when a signal handler ran.
pub fn readable(descriptors: &[BorrowedFd<'_>], timeout: Duration) -> Result<Vec<bool>, Errno> {
    let mut polls: Vec<_> = descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = rustix::time::Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
    rustix::event::poll(&mut polls, Some(&timeout))?;
    Ok(polls.iter().map(|poll| !poll.revents().is_empty()).collect())
}

/// Whether any process has this id, ended but not reaped ones included.
#[must_use]
pub fn exists(pid: u32) -> bool {
    to_pid(pid).is_ok_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// Sends a signal through a process descriptor.
///
/// # Errors
/// `ESRCH` if it has ended and was reaped, `EINVAL` for a number that is no signal.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a descriptor and integers; the null pointer asks for the default information.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::c_void>(), 0)
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// SIGKILL to a child that the caller has not reaped, so that its number is still its own.
pub fn kill_child(pid: u32) {
    if let Ok(pid) = to_pid(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The exit status of an ended process that is somebody else's child: from `/proc` while it waits to be reaped, from
/// the kernel afterwards, where that tells.
#[must_use]
pub fn exit_status_of_other(process: BorrowedFd<'_>, pid: u32) -> Option<ExitStatus> {
    let zombie = proc::wait_status_of_zombie(pid);
    // The number was still its own if the process can be signalled afterwards: it was not reaped before.
    match zombie {
        Some(status) if send_signal(process, 0).is_ok() => Some(ExitStatus::from_wait_status(status)),
        _ => exit_status_of_reaped(process),
    }
}

/// The exit status of a process that someone else reaped (`PIDFD_GET_INFO`, Linux 6.15); `None` where the kernel
/// does not tell or it still runs.
fn exit_status_of_reaped(process: BorrowedFd<'_>) -> Option<ExitStatus> {
    /// `struct pidfd_info` in its first size, from `linux/pidfd.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)` with the 64 bytes above.
    const GET_INFO: libc::Ioctl = 0xC040_FF0B;
    const _: () = assert!(size_of::<Info>() == 64);

    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the request's size field says 64, the size of `info`, which outlives the call.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then(|| ExitStatus::from_wait_status(info.exit_code))
}

/// What the system tells, once, of a child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its id, which others may get from now on.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The most memory that was resident in it, in bytes, shared pages included: `ru_maxrss` of [`wait4(2)`].
    ///
    /// A forked process begins with what is resident in its parent at that moment, of which its share is really there; the
    /// parent's own peak is not in it. A program that was executed begins with the peak of what executed it. If the
    /// child has itself waited for a child with more, it is that one's.
    ///
    /// [`wait4(2)`]: https://man7.org/linux/man-pages/man2/wait4.2.html
    pub peak_memory: u64,
}

/// Reaps one ended child of the caller, if there is one.
#[must_use]
pub fn reap_any() -> Option<Reaped> {
    wait4(-1)
}

/// Reaps that child, or any for -1, if it has ended.
fn wait4(pid: i32) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: all zeros is a valid `rusage`; both places outlive the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    let kilobytes = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    let status = ExitStatus::from_wait_status(status);
    (pid > 0).then(|| Reaped { pid: pid.unsigned_abs(), status, peak_memory: kilobytes.saturating_mul(1024) })
}

/// Reaps one child of the caller if it has ended. `Some(None)`: somebody else reaped it.
#[must_use]
pub fn reap(pid: u32) -> Option<Option<ExitStatus>> {
    match rustix::process::waitpid(Some(to_pid(pid).ok()?), WaitOptions::NOHANG) {
        Ok(None) => None,
        Ok(Some((_, status))) => Some(Some(ExitStatus::from_wait_status(status.as_raw()))),
        Err(_) => Some(None),
    }
}

/// Forks the process ([`fork(2)`]): the child's id, or 0 in the child.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` when the system is out of processes or memory.
///
/// # Safety
/// This process has one thread, or the child does nothing that is not async-signal-safe.
///
/// [`fork(2)`]: https://man7.org/linux/man-pages/man2/fork.2.html
pub unsafe fn fork() -> Result<u32, Errno> {
    // SAFETY: by contract.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(last_error()) } else { Ok(pid.unsigned_abs()) }
}

/// Reaps a child of the caller that is about to end.
pub fn await_end(pid: u32) {
    while let Ok(pid) = to_pid(pid)
        && rustix::process::waitpid(Some(pid), WaitOptions::empty()).is_err_and(|errno| errno == Errno::INTR)
    {}
}

/// Ends this process at once, without destructors or handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; nothing of this process runs afterwards.
    unsafe { libc::_exit(code) }
}

/// What [`spawn`] starts.
#[derive(Debug)]
pub struct Command {
    /// The program's path and its arguments, the first of them its name.
    pub program: CString,
    /// The arguments, the program's name first.
    pub arguments: Vec<CString>,
    /// The whole environment, `NAME=VALUE`.
    pub environment: Vec<CString>,
    /// Where the program starts; `None` for the directory of this process.
    pub directory: Option<CString>,
    /// Whether the program is somebody else's. One of ours finds SIGINT blocked until [`unblock_interrupts`], and calls
    /// [`close_all_but`]; for others no signal is blocked, and descriptors neither standard nor kept are closed.
    pub foreign: bool,
}

impl Command {
    /// A command with this process's environment, to which `extra` pairs are added.
    ///
    /// # Errors
    /// `EINVAL` if a text has a NUL byte in it.
    pub fn new(program: &str, arguments: &[String], extra: &[(&str, String)]) -> Result<Self, Errno> {
        let text = |text: &str| CString::new(text).map_err(|_| Errno::INVAL);
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let mut pair = name.into_vec();
            if extra.iter().any(|(extra, _)| extra.as_bytes() == pair) {
                continue;
            }
            pair.push(b'=');
            pair.extend(value.into_vec());
            environment.push(CString::new(pair).map_err(|_| Errno::INVAL)?);
        }
        for (name, value) in extra {
            environment.push(text(&format!("{name}={value}"))?);
        }
        let arguments =
            std::iter::once(program).chain(arguments.iter().map(String::as_str)).map(text).collect::<Result<_, _>>()?;
        Ok(Self { program: text(program)?, arguments, environment, directory: None, foreign: false })
    }
}

/// Starts a program with [`posix_spawn(3)`], which does not copy this process's memory or page tables.
///
/// `standard` become its descriptors 0 to 2; `kept` stay open under their numbers; all else must be close-on-exec
/// (the user's code may have opened others: see [`Command::foreign`]). SIGINT is blocked for a program of ours, so that
/// a Ctrl-C during the start waits for [`unblock_interrupts`]; other signals are not. SIGINT, SIGPIPE, SIGXFSZ and
/// SIGCHLD have their default action.
///
/// # Errors
/// `ENOENT` if there is no such program, `EAGAIN` or `ENOMEM` when the system is out of processes or memory.
///
/// [`posix_spawn(3)`]: https://man7.org/linux/man-pages/man3/posix_spawn.3.html
pub fn spawn(command: &Command, standard: [BorrowedFd<'_>; 3], kept: &[BorrowedFd<'_>]) -> Result<u32, Errno> {
    let pointers = |texts: &[CString]| -> Vec<*mut libc::c_char> {
        texts.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let arguments = pointers(&command.arguments);
    let environment = pointers(&command.environment);
    let leaked = if command.foreign { open_descriptors() } else { Vec::new() };
    let mut pid = 0;
    // SAFETY: the attribute and action objects are initialised before use and destroyed after it; every pointer
    // refers to storage that outlives the call; descriptors are open because they are borrowed.
    unsafe {
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        check(libc::posix_spawnattr_init(&raw mut attributes))?;
        check(libc::posix_spawn_file_actions_init(&raw mut actions))?;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        if !command.foreign {
            libc::sigaddset(&raw mut set, libc::SIGINT);
        }
        libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const set);
        for signal in [libc::SIGINT, libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::posix_spawnattr_setsigdefault(&raw mut attributes, &raw const set);
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        libc::posix_spawnattr_setflags(&raw mut attributes, flags as libc::c_short);
        let mut result = 0;
        for (target, source) in (0..).zip(standard) {
            result |= libc::posix_spawn_file_actions_adddup2(&raw mut actions, source.as_raw_fd(), target);
        }
        for fd in kept {
            // Onto itself: clears close-on-exec in the child only (glibc 2.29).
            result |= libc::posix_spawn_file_actions_adddup2(&raw mut actions, fd.as_raw_fd(), fd.as_raw_fd());
        }
        for fd in leaked {
            if fd > 2 && !kept.iter().any(|kept| kept.as_raw_fd() == fd) {
                // Fails, then or now, only for one that is closed meanwhile or lies above a limit lowered since.
                let _ = libc::posix_spawn_file_actions_addclose(&raw mut actions, fd);
            }
        }
        if let Some(directory) = &command.directory {
            result |= libc::posix_spawn_file_actions_addchdir_np(&raw mut actions, directory.as_ptr());
        }
        if result == 0 {
            result = libc::posix_spawn(
                &raw mut pid,
                command.program.as_ptr(),
                &raw const actions,
                &raw const attributes,
                arguments.as_ptr(),
                environment.as_ptr(),
            );
        }
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
        libc::posix_spawnattr_destroy(&raw mut attributes);
        check(result)?;
    }
    Ok(pid.unsigned_abs())
}

/// Closes every descriptor other than 0 to 2 and `keep`.
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if from < fd {
            close_range(from, fd - 1);
        }
        from = fd.saturating_add(1);
    }
}

fn close_range(first: u32, last: u32) {
    // SAFETY: closes descriptors that nobody in this young process owns; its caller names the ones to keep.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result != 0 {
        // Before Linux 5.9: one by one.
        for fd in open_descriptors().into_iter().filter(|fd| (first..=last).contains(&fd.cast_unsigned())) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// The descriptors that this process has open; among them, closed by now, the one they were listed with.
fn open_descriptors() -> Vec<RawFd> {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Makes `streams` this process's descriptors 0, 1 and 2.
///
/// # Errors
/// Whatever `dup2` reports.
pub fn set_streams(streams: [BorrowedFd<'_>; 3]) -> Result<(), Errno> {
    for (target, source) in (0..).zip(streams) {
        // SAFETY: 0 to 2 belong to the process as a whole; replacing them is what the caller asks for.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
            return Err(last_error());
        }
    }
    Ok(())
}

/// Tells three standard streams from others: a digest of their devices and inodes, with zeros for a closed one.
pub type StreamsIdentity = u64;

/// Which files are this process's standard streams.
#[must_use]
pub fn own_streams() -> StreamsIdentity {
    // SAFETY: borrowed for one call each; a closed number is answered with EBADF.
    identity(|number| rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(RawFd::from(number)) }))
}

/// Which files are another process's standard streams at this moment.
#[must_use]
pub fn streams_of(pid: u32) -> StreamsIdentity {
    identity(|number| rustix::fs::stat(format!("/proc/{pid}/fd/{number}")))
}

/// Which files these descriptors are.
#[must_use]
pub fn streams_identity(streams: [BorrowedFd<'_>; 3]) -> StreamsIdentity {
    identity(|number| rustix::fs::fstat(streams[usize::from(number)]))
}

fn identity(stat: impl Fn(u8) -> Result<rustix::fs::Stat, Errno>) -> StreamsIdentity {
    (0..3).fold(0, |digest, number| {
        let (device, inode) = stat(number).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
        mix(mix(digest, device), inode)
    })
}

/// Adds a value to a digest: SplitMix64's finalizer (Steele, Lea and Flood, 2014) over both.
fn mix(digest: u64, value: u64) -> u64 {
    let mut mixed = (digest ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A copy of this process's descriptor 0, 1 or 2, or of `/dev/null` where it is closed.
///
/// # Errors
/// `EMFILE` without descriptors.
pub fn standard(number: u8) -> Result<OwnedFd, Errno> {
    // SAFETY: borrowed for one call; a closed number is answered with EBADF, not with another file.
    let fd = unsafe { BorrowedFd::borrow_raw(RawFd::from(number.min(2))) };
    match rustix::io::fcntl_dupfd_cloexec(fd, 3) {
        Err(Errno::BADF) => null(),
        other => other,
    }
}

/// A copy of a descriptor that is known by its number only, close-on-exec.
///
/// # Errors
/// `EBADF` if nothing is open under that number, `EMFILE` without descriptors.
pub fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1, and borrowed for one call; a closed number is answered with EBADF, not with another file.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

/// How many descriptors this process may have open (`RLIMIT_NOFILE`).
#[must_use]
pub fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// `/dev/null`, for reading and writing.
///
/// # Errors
/// `EMFILE` without descriptors.
pub fn null() -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).and_then(crate::above_standard)
}

/// Takes over a descriptor that this process inherited by number, and makes it close-on-exec.
///
/// # Errors
/// `EBADF` if it is not open.
///
/// # Safety
/// Nobody else in the process owns that descriptor.
pub unsafe fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the caller guarantees ownership; the next call finds out whether it is open, and on failure the
    // number is forgotten rather than closed.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(errno) = rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        std::mem::forget(fd);
        return Err(errno);
    }
    Ok(fd)
}

/// SIGCHLD as something to poll: blocks the signal in the calling thread and returns a descriptor that is readable
/// while one is pending ([`signalfd(2)`]).
///
/// # Errors
/// `EMFILE` without descriptors.
///
/// [`signalfd(2)`]: https://man7.org/linux/man-pages/man2/signalfd.2.html
pub fn child_signals() -> Result<OwnedFd, Errno> {
    // SAFETY: a local set, initialised before use; the new descriptor is owned by nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Undoes the blocking of [`child_signals`] in a forked child.
pub fn unblock_child_signals() {
    unblock(libc::SIGCHLD);
}

/// Undoes the blocking of SIGINT by [`spawn`], once the program has decided what it does about it.
pub fn unblock_interrupts() {
    unblock(libc::SIGINT);
}

/// As [`unblock_interrupts`], after forgetting what came while it was blocked.
pub fn accept_interrupts() {
    forget_interrupts();
    unblock_interrupts();
}

/// Forgets each SIGINT that came while it was blocked.
pub fn forget_interrupts() {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local set, initialised before use; no information about the signal is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        while libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const none) == libc::SIGINT {}
    }
}

/// SIGINT has no effect from now on.
pub fn ignore_interrupts() {
    // SAFETY: no handler is installed, and the previous one belongs to nobody who would be asked again.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

fn unblock(signal: libc::c_int) {
    // SAFETY: a local set, initialised before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Empties a descriptor of [`child_signals`].
pub fn drain(signals: BorrowedFd<'_>) {
    let mut bytes = [0u8; 1024];
    while rustix::io::read(signals, &mut bytes).is_ok_and(|length| length > 0) {}
}

/// Has `before` run before every fork of this process, whoever forks it, and `in_child` in the child.
///
/// Handlers that were registered later run before `before`, and after `in_child` ([`pthread_atfork(3)`]). In the child,
/// only what is async-signal-safe may be done: store to atomics, close descriptors, end.
///
/// [`pthread_atfork(3)`]: https://man7.org/linux/man-pages/man3/pthread_atfork.3.html
pub fn at_fork(before: Option<extern "C" fn()>, in_child: extern "C" fn()) {
    fn wrap(handler: extern "C" fn()) -> unsafe extern "C" fn() {
        handler
    }
    // SAFETY: the handlers are functions for the life of the process.
    let _ = unsafe { libc::pthread_atfork(before.map(wrap), None, Some(wrap(in_child))) };
}

/// Closes a raw descriptor; for fork handlers, which cannot own one.
///
/// # Safety
/// Nobody in this process uses the descriptor any more.
pub unsafe fn close_raw(fd: RawFd) {
    // SAFETY: by contract.
    unsafe { libc::close(fd) };
}

/// A signal's name, `SIGSEGV`, or its number where it has none.
#[must_use]
pub fn signal_name(signal: u8) -> String {
    // SAFETY: the function takes any number and returns null or a constant text.
    let name = unsafe {
        unsafe extern "C" {
            /// `string.h` of glibc 2.32: the name without its `SIG`.
            fn sigabbrev_np(signal: libc::c_int) -> *const libc::c_char;
        }
        let name = sigabbrev_np(i32::from(signal));
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

fn to_pid(pid: u32) -> Result<Pid, Errno> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)
}

fn check(code: libc::c_int) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    fn shell(script: &str) -> (u32, OwnedFd) {
        let command = Command::new("/bin/sh", &["-c".into(), script.into()], &[("FORKLESS_TEST", "7".into())]);
        let null = null().unwrap();
        let pid = spawn(&command.unwrap(), [null.as_fd(); 3], &[]).unwrap();
        (pid, open(pid).unwrap())
    }

    fn status(pid: u32, process: &OwnedFd) -> ExitStatus {
        while !readable(&[process.as_fd()], Duration::from_secs(60)).unwrap()[0] {}
        reap(pid).unwrap().unwrap()
    }

    #[test]
    fn a_program_runs_with_the_environment_it_was_given() {
        let (pid, process) = shell("exit $FORKLESS_TEST");
        assert_eq!(status(pid, &process), ExitStatus::Exited(7));
        assert_eq!(reap(pid), Some(None), "reaped once, it is gone");
    }

    #[test]
    fn a_signal_is_told_from_an_exit_code() {
        let (pid, process) = shell("sleep 60");
        assert!(!ended(process.as_fd()));
        assert_eq!(exit_status_of_other(process.as_fd(), pid), None);
        send_signal(process.as_fd(), libc::SIGTERM).unwrap();
        while !ended(process.as_fd()) {}
        assert_eq!(exit_status_of_other(process.as_fd(), pid), Some(ExitStatus::Signaled(15)));
        let status = status(pid, &process);
        assert_eq!((status, status.code()), (ExitStatus::Signaled(15), -15));
        assert_eq!(ExitStatus::from_code(-15), Some(status));
        assert_eq!(send_signal(process.as_fd(), 0), Err(Errno::SRCH));
    }

    #[test]
    fn the_peak_of_memory_is_told_with_the_end() {
        // It has a buffer of that size, and fills it.
        let (pid, process) = shell("exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null");
        while !readable(&[process.as_fd()], Duration::from_secs(60)).unwrap()[0] {}
        let reaped = wait4(pid.cast_signed()).unwrap();
        assert_eq!((reaped.pid, reaped.status), (pid, ExitStatus::Exited(0)));
        assert!((64 << 20..128 << 20).contains(&reaped.peak_memory), "{}", reaped.peak_memory);
        assert_eq!(wait4(pid.cast_signed()), None, "reaped once, it is gone");
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let null = null().unwrap();
        let command = Command::new("/nonexistent/program", &[], &[]).unwrap();
        assert_eq!(spawn(&command, [null.as_fd(); 3], &[]), Err(Errno::NOENT));
        assert_eq!(Command::new("nul\0byte", &[], &[]).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn a_foreign_program_starts_where_it_is_told_with_what_it_is_given() {
        // As code that knows nothing of close-on-exec leaves one.
        let leaked = rustix::io::dup(null().unwrap()).unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&leaked).unwrap(), FdFlags::empty());
        let (reader, writer) = crate::orphan::lifeline().unwrap();
        let (leaked, kept) = (leaked.as_raw_fd(), reader.as_raw_fd());
        let script = format!(
            "test $(pwd) = /proc && test -e self/fd/{kept} && ! test -e self/fd/{leaked} && grep -q '^SigBlk:.0*$' self/status"
        );
        let mut command = Command::new("/bin/sh", &["-c".into(), script], &[]).unwrap();
        command.directory = Some(c"/proc".into());
        command.foreign = true;
        let null = null().unwrap();
        let pid = spawn(&command, [null.as_fd(); 3], &[reader.as_fd()]).unwrap();
        let ended = status(pid, &open(pid).unwrap());
        assert!(ended.success(), "{ended}");
        drop(writer);
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(ExitStatus::Signaled(9).to_string(), "SIGKILL");
        assert_eq!(ExitStatus::Exited(3).to_string(), "exit code 3");
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(99), "signal 99");
    }
}
