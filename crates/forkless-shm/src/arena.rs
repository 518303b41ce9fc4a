//! Making an arena, joining one, and the process's own place in it.

use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32 as PrivateU32, Ordering};

use forkless_sys::atomic::{AtomicU32, AtomicU64};
use forkless_sys::memory::{Mapping, MemoryFile};
use forkless_sys::{AsFd, BorrowedFd, Errno, OwnedFd, process};

use crate::last_words;
use crate::layout::{HEAP, MAGIC, SLOTS_AT, VERSION, header};
use crate::lease::{Inheritance, MAX_SIZE};
use crate::slot::{Owner, Role};
use crate::{Error, Kind};

/// Sizes to try, in bytes, largest first: address space is free until a limit says otherwise.
const SIZES: [usize; 6] = [MAX_SIZE, 64 << 30, 16 << 30, 4 << 30, 1 << 30, 256 << 20];

/// What the system calls the memory file, for whoever looks at what a process has open.
pub const FILE_NAME: &str = "forkless";

/// Bytes of address space that an arena leaves to the program.
const SPARE: usize = 64 << 20;

/// One arena as this process sees it. Lives as long as the process: objects keep plain references to it.
#[derive(Debug)]
pub struct Arena {
    file: MemoryFile,
    map: Mapping,
    id: u64,
    /// This process's owner word, 0 while it has no slot: at first for strangers, and after a fork by user code.
    me: PrivateU32,
    /// What that was before a fork by user code, until this process has a place of its own.
    before_fork: PrivateU32,
    /// What stands in this process for the leases of the one that it was forked from; never freed.
    inheritance: AtomicPtr<Inheritance>,
    kinds: &'static [Kind],
    next: AtomicPtr<Self>,
}

/// The arenas of this process, latest first. Only ever grows, so that walking it needs no lock.
static ARENAS: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());

/// Held by the thread that gets this process a slot; record locks tell processes apart, not threads.
static REGISTERING: AtomicI32 = AtomicI32::new(0);

/// A descriptor that must not survive a fork by user code, or -1: see [`close_in_forks`].
static CLOSED_IN_FORKS: AtomicI32 = AtomicI32::new(-1);

impl Arena {
    /// Makes an arena and the calling process its main process. `kinds` says how to take apart each kind of block.
    ///
    /// # Errors
    /// [`Error::System`] without memory, address space or descriptors.
    pub fn create(kinds: &'static [Kind]) -> Result<&'static Self, Error> {
        let (file, map) = Self::reserve()?;
        let id = forkless_sys::random_u64().map_err(Error::system("name the arena"))?;
        let arena = Self::publish(file, map, id, kinds);
        for (offset, value) in [
            (header::VERSION, VERSION),
            (header::ID, id),
            (header::SIZE, arena.map.size() as u64),
            (header::FRESH, HEAP as u64),
            (header::MAGIC, MAGIC),
        ] {
            arena.word(offset)?.store(value, Ordering::Release);
        }
        Ok(arena)
    }

    /// As large a file as this process may map.
    fn reserve() -> Result<(MemoryFile, Mapping), Error> {
        let mut last = Errno::NOMEM;
        for size in SIZES {
            let map = |file: MemoryFile| {
                let map = Mapping::whole(&file)?;
                // The rest of the program needs some, too: a failed allocation may end it.
                if !cfg!(loom) {
                    Mapping::read_only(&file, 0, SPARE)?;
                }
                Ok((file, map))
            };
            match MemoryFile::create(FILE_NAME, size).and_then(map) {
                Ok(reserved) => return Ok(reserved),
                Err(errno @ (Errno::NOMEM | Errno::FBIG | Errno::INVAL | Errno::OVERFLOW)) => last = errno,
                Err(errno) => return Err(Error::system("create the shared arena")(errno)),
            }
        }
        Err(Error::system("reserve address space for the shared arena (see RLIMIT_AS, RLIMIT_FSIZE)")(last))
    }

    /// Joins the arena behind a descriptor that another process handed over.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is no arena of this version; [`Error::System`] if it cannot be mapped.
    pub fn join(fd: OwnedFd, kinds: &'static [Kind]) -> Result<&'static Self, Error> {
        let file = MemoryFile::adopt(fd).map_err(Error::system("take up the shared arena"))?;
        let map = Mapping::whole(&file).map_err(Error::system("map the shared arena (see RLIMIT_AS)"))?;
        let value = |offset| map.u64(offset).map_or(0, |word| word.load(Ordering::Acquire));
        if !(HEAP..=MAX_SIZE).contains(&map.size())
            || value(header::MAGIC) != MAGIC
            || value(header::SIZE) != map.size() as u64
        {
            return Err(Error::Corrupt("not an arena"));
        }
        if value(header::VERSION) != VERSION {
            return Err(Error::Stale("the other process runs another version of forkless"));
        }
        let id = value(header::ID);
        match Self::find(id) {
            Some(known) => Ok(known),
            None => Ok(Self::publish(file, map, id, kinds)),
        }
    }

    fn publish(file: MemoryFile, map: Mapping, id: u64, kinds: &'static [Kind]) -> &'static Self {
        let arena = Self::new(file, map, id, kinds);
        arena.next.store(ARENAS.load(Ordering::Acquire), Ordering::Relaxed);
        let new = std::ptr::from_mut(arena);
        let arena: &'static Self = arena;
        if arena.next.load(Ordering::Relaxed).is_null() {
            process::at_fork(None, after_fork_in_child);
        }
        let mut head = arena.next.load(Ordering::Relaxed);
        while let Err(now) = ARENAS.compare_exchange(head, new, Ordering::Release, Ordering::Acquire) {
            head = now;
            arena.next.store(now, Ordering::Relaxed);
        }
        arena
    }

    fn new(file: MemoryFile, map: Mapping, id: u64, kinds: &'static [Kind]) -> &'static mut Self {
        Box::leak(Box::new(Self {
            file,
            map,
            id,
            me: PrivateU32::new(0),
            before_fork: PrivateU32::new(0),
            inheritance: AtomicPtr::default(),
            kinds,
            next: AtomicPtr::default(),
        }))
    }

    /// What another process of a model has of this arena: that process arrives at the place given.
    ///
    /// # Errors
    /// See [`Self::arrive`].
    #[cfg(loom)]
    pub fn view(&self, owner: Owner) -> Result<&'static Self, Error> {
        let file = MemoryFile::create("view", HEAP).map_err(Error::system("make a view"))?;
        let view: &Self = Self::new(file, self.map.share(), self.id, self.kinds);
        view.arrive(owner)?;
        Ok(view)
    }

    /// The arena with this id, if this process has it.
    #[must_use]
    pub fn find(id: u64) -> Option<&'static Self> {
        arenas().find(|arena| arena.id == id)
    }

    /// The arena in which this process makes its objects: the first that it made or joined.
    #[must_use]
    pub fn home() -> Option<&'static Self> {
        arenas().last()
    }

    /// Random and never zero; part of every handle.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.map.size()
    }

    /// Where the heap ends, and last words begin.
    pub(crate) fn heap_end(&self) -> usize {
        last_words::begin(self.map.size())
    }

    /// The memory file, to hand to another process of the tree.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The whole arena's mapping.
    #[must_use]
    pub fn map(&self) -> &Mapping {
        &self.map
    }

    pub(crate) fn memory(&self) -> &MemoryFile {
        &self.file
    }

    /// A read-only mapping of a range, and the position of `offset` in it.
    ///
    /// # Errors
    /// [`Error::System`] without address space.
    pub fn map_read_only(&self, offset: usize, length: usize) -> Result<(Mapping, usize), Error> {
        Mapping::read_only(&self.file, offset, length).map_err(Error::system("map shared memory for reading"))
    }

    /// Maps a range as a copy of this process's own, made page by page as it is written to. What has not been written to is
    /// the arena's memory still: only of what nobody writes to any more, and with a lease on it for as long as it is mapped.
    ///
    /// # Errors
    /// [`Error::System`] outside the arena, or without address space.
    pub fn map_copy_on_write(&self, offset: usize, length: usize) -> Result<(Mapping, usize), Error> {
        Mapping::copy_on_write(&self.file, offset, length).map_err(Error::system("map a copy of shared memory"))
    }

    pub(crate) fn kind(&self, id: u8) -> Option<&'static Kind> {
        self.kinds.iter().find(|kind| kind.id == id)
    }

    /// This process's place in the arena; gets it one if it has none.
    ///
    /// # Errors
    /// [`Error::NoSlot`] when the tree is full.
    pub fn me(&'static self) -> Result<Owner, Error> {
        match Owner::from_word(self.me.load(Ordering::Relaxed)) {
            Some(me) => Ok(me),
            None => self.register(),
        }
    }

    /// As [`Self::me`], but gets it none.
    pub(crate) fn me_if_any(&self) -> Option<Owner> {
        Owner::from_word(self.me.load(Ordering::Relaxed))
    }

    pub(crate) fn inheritance(&self) -> Option<&'static Inheritance> {
        deref(self.inheritance.load(Ordering::Acquire))
    }

    /// Whether this process is the one with that place: false in a fork of it by user code. Gets it no place.
    #[must_use]
    #[inline]
    pub fn is_me(&self, owner: Owner) -> bool {
        self.me.load(Ordering::Relaxed) == owner.word()
    }

    #[cold]
    fn register(&'static self) -> Result<Owner, Error> {
        while REGISTERING.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        let registered = match Owner::from_word(self.me.load(Ordering::Acquire)) {
            Some(me) => Ok(me),
            None => {
                let first = self.word(SLOTS_AT + crate::layout::slot::STATE)?.load(Ordering::Relaxed) == 0;
                let (role, name) = if first { (Role::Main, "MainProcess") } else { (Role::Guest, "guest") };
                self.register_slot(role, name).and_then(|me| self.inherit(me))
            }
        };
        if let Ok(me) = registered {
            self.me.store(me.word(), Ordering::Release);
        }
        REGISTERING.store(0, Ordering::Release);
        if registered.is_ok() {
            self.clean_up_after_guests()?;
        }
        registered
    }

    /// In a process that was forked by user code: takes leases on what the original holds.
    fn inherit(&'static self, me: Owner) -> Result<Owner, Error> {
        if let Some(original) = Owner::from_word(self.before_fork.swap(0, Ordering::Relaxed)) {
            let inheritance = Inheritance::take(self, original, me, self.inheritance())?;
            self.inheritance.store(Box::into_raw(Box::new(inheritance)), Ordering::Release);
        }
        Ok(me)
    }

    /// Makes the calling process the one that `owner` was reserved for.
    ///
    /// # Errors
    /// [`Error::Stale`] if whoever asked for this process has given up.
    pub fn arrive(&'static self, owner: Owner) -> Result<(), Error> {
        self.take_slot(owner)?;
        self.me.store(owner.word(), Ordering::Release);
        Ok(())
    }

    /// The record lock under which processes without a slot take turns; released when dropped, or by death.
    pub(crate) fn registrar_lock(&self) -> Result<impl Drop + '_, Error> {
        self.file.lock().map_err(Error::system("wait for a turn to join the process tree"))
    }

    /// The double word at `offset`.
    pub(crate) fn word(&self, offset: usize) -> Result<&AtomicU64, Error> {
        self.map.u64(offset).ok_or(Error::Corrupt("an offset points outside the arena"))
    }

    /// The word at `offset`.
    pub(crate) fn word32(&self, offset: usize) -> Result<&AtomicU32, Error> {
        self.map.u32(offset).ok_or(Error::Corrupt("an offset points outside the arena"))
    }
}

fn arenas() -> impl Iterator<Item = &'static Arena> {
    let mut at: *mut Arena = ARENAS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        let arena = deref(at)?;
        at = arena.next.load(Ordering::Acquire);
        Some(arena)
    })
}

/// Has every copy of this process that user code makes take leases on what this one holds, rather than when it first
/// uses something: the sooner, the less can be gone. To be called in the copy.
///
/// # Errors
/// [`Error::NoSlot`] when a tree is full, [`Error::Full`] when there is no room for the leases.
pub fn take_leases_after_fork() -> Result<(), Error> {
    arenas().try_for_each(|arena| arena.me().map(|_| ()))
}

/// The only dereference in this crate.
#[allow(unsafe_code)]
fn deref<T>(pointer: *mut T) -> Option<&'static T> {
    // SAFETY: null, or from a leaked box that is never taken back: the arenas on the list, and what they have inherited.
    unsafe { pointer.as_ref() }
}

/// Has a descriptor closed in every child that user code forks, so that the child does not count as its holder.
pub fn close_in_forks(fd: BorrowedFd<'_>) {
    use forkless_sys::AsRawFd;
    CLOSED_IN_FORKS.store(fd.as_raw_fd(), Ordering::Release);
}

/// A child of a fork by user code is a new process to every arena: it has no slot and holds nothing. Only stores to
/// atomics and closes a descriptor, as the moment demands.
extern "C" fn after_fork_in_child() {
    for arena in arenas() {
        // A process that never had a place has nothing but what it inherited itself.
        let me = arena.me.swap(0, Ordering::Relaxed);
        if me != 0 {
            arena.before_fork.store(me, Ordering::Relaxed);
        }
    }
    REGISTERING.store(0, Ordering::Relaxed);
    let fd = CLOSED_IN_FORKS.swap(-1, Ordering::Relaxed);
    if fd >= 0 {
        close(fd);
    }
}

#[allow(unsafe_code)]
fn close(fd: i32) {
    // SAFETY: named by `close_in_forks`; the child's copy is used by nobody, as its process has no slot yet.
    unsafe { process::close_raw(fd) };
}
