//! What the kernel keeps for each process and a fork would have copied: file mode mask, signal mask, niceness, CPU
//! affinity and limits.
//!
//! A child that a template forks has the template's. So whoever asks for it takes [note](Attributes::here) of its own,
//! and the child [adopts](Attributes::adopt) them.
#![allow(unsafe_code)]

use rustix::io::Errno;

use crate::{last_error, process};

/// Kinds of limits there are: `RLIM_NLIMITS` of `asm-generic/resource.h`, the same on every architecture we run on.
const LIMITS: usize = 16;
/// Words of an affinity mask: 1024 CPUs, as many as `cpu_set_t` of glibc has.
const CPU_WORDS: usize = 16;
/// Signals 1 to 64.
const SIGNALS: libc::c_int = 64;

/// SIGINT: see [`process::spawn`].
const BLOCKED_AT_FIRST: u64 = 1 << (libc::SIGINT - 1);

/// What a limit is called, by its number (`getrlimit(2)`).
const LIMIT_NAMES: [&str; LIMITS] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// One process's attributes at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `None` where it cannot be read without changing it: there is no `/proc`.
    umask: Option<u32>,
    /// Bit n - 1 for a blocked signal n, of the calling thread.
    blocked: u64,
    niceness: i32,
    /// All zero where the machine has more CPUs than the mask.
    cpus: [u64; CPU_WORDS],
    /// Soft and hard; `None` for a limit that this kernel does not know.
    limits: [Option<(u64, u64)>; LIMITS],
}

/// A limit, or another attribute, that the system did not let the child have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot take over {what} from the parent: {errno}")]
pub struct Refused {
    /// Which attribute.
    pub what: &'static str,
    /// What the system said.
    pub errno: Errno,
}

impl Attributes {
    /// Bytes of [`Self::to_bytes`].
    pub const SIZE: usize = 8 * (3 + CPU_WORDS + 2 * LIMITS);

    /// Those of the calling process; signal mask, niceness and affinity are the calling thread's, as they are in a fork.
    #[must_use]
    pub fn here() -> Self {
        let mut cpus = [0; CPU_WORDS];
        let mut limits = [None; LIMITS];
        // SAFETY: each call fills in a local of the size that it is told, or the size that its type has; on failure the
        // value from before is used.
        let (blocked, niceness) = unsafe {
            libc::sched_getaffinity(0, size_of_val(&cpus), cpus.as_mut_ptr().cast());
            for (number, limit) in (0..).zip(&mut limits) {
                let mut value = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
                if libc::prlimit64(0, number, std::ptr::null(), &raw mut value) == 0 {
                    *limit = Some((value.rlim_cur, value.rlim_max));
                }
            }
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut set);
            (to_bits(&set), libc::getpriority(libc::PRIO_PROCESS, 0))
        };
        Self { umask: umask(), blocked, niceness, cpus, limits }
    }

    /// Makes the calling process's like these, as far as they differ. SIGINT, which is blocked in a young child, counts from
    /// here on: what came before was for others. A niceness that would take privileges is left out,
    /// and so is an affinity that the machine's control groups do not allow: both are wishes to the scheduler.
    ///
    /// # Errors
    /// [`Refused`] for a limit that cannot be raised, or a mask the system does not take.
    pub fn adopt(&self) -> Result<(), Refused> {
        let now = Self::here();
        if let Some(umask) = self.umask.filter(|_| self.umask != now.umask) {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        }
        // SAFETY: the calls read locals of the size that they are told, or that their types have.
        unsafe {
            if self.niceness != now.niceness {
                libc::setpriority(libc::PRIO_PROCESS, 0, self.niceness);
            }
            if self.cpus != now.cpus && self.cpus != [0; CPU_WORDS] {
                libc::sched_setaffinity(0, size_of_val(&self.cpus), self.cpus.as_ptr().cast());
            }
            for (number, (wanted, have)) in (0..).zip(self.limits.into_iter().zip(now.limits)) {
                let Some((soft, hard)) = wanted.filter(|_| wanted != have) else { continue };
                let value = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
                if libc::prlimit64(0, number, &raw const value, std::ptr::null_mut()) != 0 {
                    return Err(Refused { what: LIMIT_NAMES[number as usize], errno: last_error() });
                }
            }
            if self.blocked != now.blocked {
                if self.blocked & BLOCKED_AT_FIRST == 0 {
                    process::forget_interrupts();
                }
                // Last: a signal that waits for this may end the process here.
                let set = to_set(self.blocked);
                let code = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
                if code != 0 {
                    return Err(Refused { what: "the signal mask", errno: Errno::from_raw_os_error(code) });
                }
            }
        }
        Ok(())
    }

    /// Whether a child forked from the calling process has these, given that it gets no signals blocked that a template
    /// blocks for itself: SIGCHLD and SIGINT.
    #[must_use]
    pub fn are_inherited(&self) -> bool {
        let mut now = Self::here();
        now.blocked &= !(1 << (libc::SIGCHLD - 1) | BLOCKED_AT_FIRST);
        now == *self
    }

    /// For the journey to another process of this machine.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let limits = self.limits.iter().flat_map(|limit| {
            // No limit has a soft value above its hard one: that stands for none.
            let (soft, hard) = limit.unwrap_or((1, 0));
            [soft, hard]
        });
        let umask = self.umask.map_or(u64::MAX, u64::from);
        let first = [umask, self.blocked, i64::from(self.niceness).cast_unsigned()];
        first.into_iter().chain(self.cpus).chain(limits).flat_map(u64::to_le_bytes).collect()
    }

    /// From [`Self::to_bytes`]; `None` for bytes of another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let mut words = bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let mut next = || words.next().unwrap_or(0);
        Some(Self {
            umask: u32::try_from(next()).ok(),
            blocked: next(),
            niceness: next() as i32,
            cpus: std::array::from_fn(|_| next()),
            limits: std::array::from_fn(|_| Some((next(), next())).filter(|(soft, hard)| soft <= hard)),
        })
    }
}

/// The file mode mask. No call tells it without changing it, for all threads; `/proc` does (`proc_pid_status(5)`,
/// Linux 4.7), in its second line.
fn umask() -> Option<u32> {
    use rustix::fs::{Mode, OFlags};
    let status = rustix::fs::open(c"/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // The first line is a name of 16 bytes, each four at most when escaped.
    let mut bytes = [0; 128];
    let length = rustix::io::read(&status, &mut bytes).ok()?;
    parse_umask(&bytes[..length])
}

fn parse_umask(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(b"Umask:\t"))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

fn to_bits(set: &libc::sigset_t) -> u64 {
    // SAFETY: the set is initialised, and the numbers are signals.
    let blocked = |signal: &libc::c_int| unsafe { libc::sigismember(std::ptr::from_ref(set), *signal) == 1 };
    (1..=SIGNALS).filter(blocked).fold(0, |bits, signal| bits | 1 << (signal - 1))
}

fn to_set(bits: u64) -> libc::sigset_t {
    // SAFETY: a local set, initialised before use; numbers that glibc keeps for itself are refused by it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in (1..=SIGNALS).filter(|signal| bits >> (signal - 1) & 1 != 0) {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_the_journey() {
        let here = Attributes::here();
        assert_eq!(Attributes::from_bytes(&here.to_bytes()), Some(here.clone()));
        assert_eq!(Attributes::from_bytes(&here.to_bytes()[1..]), None);
        let odd = Attributes { umask: None, niceness: -20, limits: [None; LIMITS], ..here };
        assert_eq!(Attributes::from_bytes(&odd.to_bytes()), Some(odd));
    }

    #[test]
    fn what_differs_is_taken_over() {
        // In a thread of its own, whose signal mask, niceness and affinity nobody else has.
        std::thread::spawn(|| {
            let before = Attributes::here();
            let first = before.cpus.iter().position(|word| *word != 0).unwrap();
            let mut cpus = [0; CPU_WORDS];
            cpus[first] = 1 << before.cpus[first].trailing_zeros();
            let wanted = Attributes { blocked: 1 << 9, niceness: 19, cpus, ..before.clone() };
            wanted.adopt().unwrap();
            assert_eq!(Attributes::here(), wanted);
            assert_ne!(wanted, before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_limit_that_cannot_be_had_is_named() {
        let mut wanted = Attributes::here();
        // Above `fs.nr_open`, which not even root may pass.
        wanted.limits[7] = Some((1 << 40, 1 << 40));
        assert_eq!(wanted.adopt(), Err(Refused { what: "RLIMIT_NOFILE", errno: Errno::PERM }));
    }

    #[test]
    fn a_torn_status_has_no_umask() {
        assert_eq!(parse_umask(b"Name:\ta b\nUmask:\t0027\nState:"), Some(0o27));
        assert_eq!(parse_umask(b"Name:\ta\n"), None);
        assert_eq!(parse_umask(b"Name:\ta\nUmask:\t9\n"), None);
    }
}
