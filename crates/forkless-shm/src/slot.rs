//! Slots: one per process of the tree.
//!
//! A slot is reserved by whoever asks for the process, taken by the process itself, ended by whoever reaps it, and given
//! back by whoever asked. Its generation grows with every reservation, so an [`Owner`] found in an old lock
//! never means a new process. What the process holds hangs on its slot and is written by it alone.

use forkless_sys::atomic::{AtomicU32, Ordering};
use forkless_sys::process::{self, ExitStatus};
use forkless_sys::{crash, futex, liveness, proc};

use crate::Error;
use crate::arena::Arena;
use crate::layout::{SLOTS, SLOTS_AT, header, slot};
use crate::txn::Transaction;

/// A process: its slot and the slot's generation. Packs into 31 bits, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(u32);

/// Generations of one slot; a slot that has used them all is never taken again. With 4096 slots that is 134 million
/// processes per tree.
const GENERATIONS: u32 = 0x7fff;

impl Owner {
    /// Stands for whoever is not known any more: the last generation of a slot, which none gets to in practice.
    pub(crate) const LONG_GONE: Self = Self(GENERATIONS << 16 | 1);

    fn new(index: usize, generation: u32) -> Self {
        Self(generation << 16 | (index as u32 + 1))
    }

    /// The word that stands for this process in locks.
    #[must_use]
    pub fn word(self) -> u32 {
        self.0
    }

    /// From [`Self::word`]; `None` for words that name nobody.
    #[must_use]
    pub fn from_word(word: u32) -> Option<Self> {
        let index = (word & 0xffff) as usize;
        let sound = (1..=SLOTS).contains(&index) && word >> 16 != 0 && word >> 31 == 0;
        sound.then_some(Self(word))
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & 0xffff) as usize - 1
    }

    fn generation(self) -> u32 {
        self.0 >> 16
    }

    pub(crate) fn field(self, field: usize) -> usize {
        SLOTS_AT + self.index() * slot::SIZE + field
    }
}

/// What a process is to its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Made the arena.
    Main,
    /// Forks the children.
    Template,
    /// Was asked for by another process of the tree.
    Child,
    /// Joined by itself: forked by user code, or a stranger that was let in.
    Guest,
    /// Waits to become a child.
    Standby,
}

impl Role {
    const ALL: [Self; 5] = [Self::Main, Self::Template, Self::Child, Self::Guest, Self::Standby];

    pub(crate) fn code(self) -> u64 {
        self as u64 + 1
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// In one lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Template => "template",
            Self::Child => "child",
            Self::Guest => "guest",
            Self::Standby => "standby",
        }
    }
}

/// The calling process's id and when it started, which tells it from others with the same id.
fn own_identity() -> (u64, u64) {
    (u64::from(process::id()), proc::start_time(process::id()).unwrap_or(0))
}

/// Nobody's.
const FREE: u64 = 0;
/// Somebody asked for a process that has not arrived yet.
const RESERVED: u64 = 1;
/// Its process is writing itself down.
const ARRIVING: u64 = 2;
/// The process is there.
const LIVE: u64 = 3;
/// It ended; whoever asked for it may still want to know how.
const ENDED: u64 = 4;
/// Its process was turned away while it was writing itself down. It may go on with that at any time, so nobody ever gets the
/// slot again.
const FORSAKEN: u64 = 5;

/// How a process came to its end, as its slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended with this status.
    Status(ExitStatus),
    /// It ended, and nobody can say how: whoever could have reaped it was killed.
    Unknown,
    /// It was never started: the system's error, or 0 for a reason given elsewhere.
    NotStarted(u16),
}

impl End {
    const STATUS: u32 = 1 << 16;
    const UNKNOWN: u32 = 2 << 16;
    const NOT_STARTED: u32 = 3 << 16;

    fn word(self) -> u32 {
        match self {
            Self::Status(status) => Self::STATUS | u32::from(status.code() as u16),
            Self::Unknown => Self::UNKNOWN,
            Self::NotStarted(errno) => Self::NOT_STARTED | u32::from(errno),
        }
    }

    fn from_word(word: u32) -> Option<Self> {
        let low = (word & 0xffff) as u16;
        match word & !0xffff {
            Self::STATUS => ExitStatus::from_code(i32::from(low.cast_signed())).map(Self::Status),
            Self::UNKNOWN => Some(Self::Unknown),
            Self::NOT_STARTED => Some(Self::NotStarted(low)),
            _ => None,
        }
    }
}

/// What a slot says about its process, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its place in the tree.
    pub owner: Owner,
    /// The process id.
    pub pid: u32,
    /// Its name, as its starter gave it.
    pub name: String,
    /// What it is to the tree.
    pub role: Role,
    /// Who asked for it.
    pub parent: Option<Owner>,
    /// Whether it is there and has not ended.
    pub live: bool,
}

impl Process {
    fn new(owner: Owner, state: u64, name: &[u8], word: impl Fn(usize) -> Option<u64>) -> Option<Self> {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Some(Self {
            owner,
            pid: word(slot::PID)? as u32,
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            role: Role::from_code(word(slot::ROLE)?)?,
            parent: Owner::from_word(word(slot::PARENT)? as u32),
            live: state & 0xffff_ffff == LIVE,
        })
    }

    /// From the bytes of a slot; `None` if it is nobody's, or its process has not come yet.
    pub(crate) fn parse(index: usize, bytes: &[u8]) -> Option<Self> {
        let word = |field: usize| Some(u64::from_ne_bytes(bytes.get(field..field + 8)?.try_into().ok()?));
        let state = word(slot::STATE)?;
        let owner = Owner::from_word(Owner::new(index, (state >> 32) as u32).word())?;
        let name = bytes.get(slot::NAME..slot::NAME + slot::NAME_SIZE)?;
        matches!(state & 0xffff_ffff, LIVE | ENDED).then(|| Self::new(owner, state, name, word))?
    }
}

impl Arena {
    /// Sets a slot aside for a process about to be asked for.
    ///
    /// # Errors
    /// [`Error::NoSlot`] when all are taken.
    pub fn reserve_slot(&'static self, role: Role, name: &str) -> Result<Owner, Error> {
        let me = self.me()?;
        // A standby has no parent until somebody claims it.
        let parent = (role != Role::Standby).then_some(me);
        self.reserve_slot_signed(me, parent, (0, 0), role, name)
    }

    /// Reserves and takes a slot for the calling process, which has none to sign the allocator's lock with.
    ///
    /// It signs with the registrar: a slot of its own at the end of the table, lent to one process at a time by a
    /// record lock on the arena's file, which the kernel takes back from a process that dies.
    pub(crate) fn register_slot(&'static self, role: Role, name: &str) -> Result<Owner, Error> {
        let _turn = self.registrar_lock()?;
        let index = SLOTS - 1;
        let state = self.word(SLOTS_AT + index * slot::SIZE + slot::STATE)?;
        let generation = ((state.load(Ordering::Acquire) >> 32) as u32).wrapping_add(1) % GENERATIONS;
        let registrar = Owner::new(index, generation.max(1));
        let (pid, started) = own_identity();
        self.word(registrar.field(slot::PID))?.store(pid, Ordering::Relaxed);
        self.word(registrar.field(slot::STARTED))?.store(started, Ordering::Relaxed);
        state.store(u64::from(registrar.generation()) << 32 | LIVE, Ordering::Release);
        // With its identity from the first moment: nobody else knows whose slot this is, should it die before it lives.
        let reserved = self.reserve_slot_signed(registrar, None, (pid, started), role, name);
        state.store(u64::from(registrar.generation()) << 32 | FREE, Ordering::Release);
        let owner = reserved?;
        self.take_slot(owner)?;
        Ok(owner)
    }

    fn reserve_slot_signed(
        &'static self,
        signer: Owner,
        parent: Option<Owner>,
        (pid, started): (u64, u64),
        role: Role,
        name: &str,
    ) -> Result<Owner, Error> {
        let mut transaction = Transaction::begin_as(self, signer)?;
        let used = transaction.get(header::SLOTS_USED)? as usize;
        // Slots in use so far first, one more if none is free: slots never used cost no memory.
        let owner = (0..SLOTS - 1)
            .take(used.saturating_add(1))
            .find_map(|index| {
                let state = transaction.get(SLOTS_AT + index * slot::SIZE + slot::STATE).ok()?;
                let generation = ((state >> 32) as u32).saturating_add(1);
                (state & 0xffff_ffff == FREE && generation < GENERATIONS).then(|| Owner::new(index, generation))
            })
            .ok_or(Error::NoSlot)?;
        for (field, value) in [
            (slot::STATE, u64::from(owner.generation()) << 32 | RESERVED),
            (slot::PID, pid),
            (slot::STARTED, started),
            (slot::PARENT, parent.map_or(0, |parent| u64::from(parent.word()))),
            (slot::ROLE, role.code()),
            // END and CHILD_EVENTS share a word.
            (slot::END, 0),
            (slot::LEASES, 0),
            (slot::CLAIM_COUNT_AT, 0),
            // JOB_GENERATION and TEMPLATE share a word.
            (slot::JOB_GENERATION, 0),
            (slot::STREAMS, 0),
            (slot::PEAK_MEMORY, 0),
        ] {
            transaction.set(owner.field(field), value)?;
        }
        transaction.set(header::SLOTS_USED, used.max(owner.index() + 1) as u64)?;
        // Nobody reads these before the state says so.
        self.write_name(owner, name)?;
        if !self.map().write(owner.field(slot::LIVE), &[0; liveness::SIZE]) {
            return Err(Error::Corrupt("slot"));
        }
        transaction.commit()?;
        crash::point("slot.reserved");
        Ok(owner)
    }

    /// Writes down why a process was not started, in the place of its name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn record_refusal(&'static self, owner: Owner, reason: u16, note: &str) -> Result<(), Error> {
        let _lock = Transaction::begin(self)?;
        if self.process(owner).is_some() {
            self.write_name(owner, note)?;
            self.write_end(owner, End::NotStarted(reason));
        }
        Ok(())
    }

    pub(crate) fn write_name(&self, owner: Owner, name: &str) -> Result<(), Error> {
        let mut bytes = [0; slot::NAME_SIZE];
        let length = name.floor_char_boundary(slot::NAME_SIZE - 1);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        if self.map().write(owner.field(slot::NAME), &bytes) { Ok(()) } else { Err(Error::Corrupt("slot")) }
    }

    /// Makes the calling process the one that the slot was reserved for.
    ///
    /// # Errors
    /// [`Error::Stale`] if the slot was given back meanwhile.
    pub(crate) fn take_slot(&'static self, owner: Owner) -> Result<(), Error> {
        const GIVEN_UP: Error = Error::Stale("the process that asked for this one has given up");
        let state = self.word(owner.field(slot::STATE))?;
        let generation = u64::from(owner.generation()) << 32;
        let change = |from, to| {
            let changed =
                state.compare_exchange(generation | from, generation | to, Ordering::AcqRel, Ordering::Relaxed);
            changed.map_err(|_| GIVEN_UP)
        };
        // Another process may have the slot by now, and its fields; from here on it is not given away.
        change(RESERVED, ARRIVING)?;
        crash::point("slot.entered");
        let (pid, started) = own_identity();
        self.word(owner.field(slot::PID))?.store(pid, Ordering::Relaxed);
        self.word(owner.field(slot::STARTED))?.store(started, Ordering::Relaxed);
        if process::is_main_thread() {
            // On failure waiters fall back to asking for the process itself.
            let _ = liveness::register(self.map(), owner.field(slot::LIVE));
        }
        crash::point("slot.registered");
        // Whoever sees LIVE sees the fields above.
        change(ARRIVING, LIVE)?;
        Ok(())
    }

    /// Turns away a process that is on its way into its slot: it turns round instead. `false` if it is there, or the slot is
    /// not its own any more.
    ///
    /// For processes of which nobody knows whether they live. One that was stopped for however long, and goes on, finds that it
    /// is not wanted; until then it writes into this slot, which is therefore lost to the tree.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if shared memory is damaged.
    pub fn turn_away(&'static self, owner: Owner) -> Result<bool, Error> {
        let _lock = Transaction::begin(self)?;
        let generation = u64::from(owner.generation()) << 32;
        // By one store, as the process itself arrives: one of them comes first.
        let change = self.word(owner.field(slot::STATE))?.compare_exchange(
            generation | ARRIVING,
            generation | FORSAKEN,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        Ok(change.is_ok())
    }

    /// Whether the process has ended. Exact for a process that registered its main thread; for others as fresh as
    /// `/proc`.
    #[must_use]
    pub fn is_dead(&self, owner: Owner) -> bool {
        let Ok(state) = self.word(owner.field(slot::STATE)) else { return true };
        let state = state.load(Ordering::Acquire);
        if (state >> 32) as u32 != owner.generation() {
            return true;
        }
        match state & 0xffff_ffff {
            LIVE => self.is_ended(owner),
            RESERVED | ARRIVING => false,
            _ => true,
        }
    }

    /// Whether the number of a slot's process is still its own: it lives, or waits to be reaped. Numbers are given again.
    #[must_use]
    pub fn has_number(&self, owner: Owner, pid: u32) -> bool {
        let started = || self.word(owner.field(slot::STARTED)).map_or(0, |started| started.load(Ordering::Acquire));
        !self.is_dead(owner) || proc::origin(pid).is_some_and(|(_, now)| now == started())
    }

    /// Whether the process that is written in the slot has ended, whatever the slot's state says.
    pub(crate) fn is_ended(&self, owner: Owner) -> bool {
        match self.liveness(owner).map(|live| live.load(Ordering::Acquire)) {
            Some(0) | None => {
                let identity = self.word(owner.field(slot::PID)).and_then(|pid| {
                    Ok((pid.load(Ordering::Relaxed), self.word(owner.field(slot::STARTED))?.load(Ordering::Relaxed)))
                });
                identity.map_or(true, |(pid, started)| proc::is_gone(pid as u32, started))
            }
            Some(live) => liveness::died(live),
        }
    }

    /// The word that the kernel marks when the process dies, to sleep on beside another one.
    #[must_use]
    pub fn liveness(&self, owner: Owner) -> Option<&AtomicU32> {
        self.map().u32(owner.field(slot::LIVE))
    }

    /// What the slot says, or `None` once it has been given back.
    #[must_use]
    pub fn process(&self, owner: Owner) -> Option<Process> {
        let state = self.word(owner.field(slot::STATE)).ok()?.load(Ordering::Acquire);
        if state & 0xffff_ffff == FREE { None } else { self.last_known(owner) }
    }

    /// As [`Self::process`], but also of a slot that has been given back and not been taken again.
    #[must_use]
    pub fn last_known(&self, owner: Owner) -> Option<Process> {
        let word = |field| Some(self.word(owner.field(field)).ok()?.load(Ordering::Acquire));
        let state = word(slot::STATE)?;
        if (state >> 32) as u32 != owner.generation() {
            return None;
        }
        let mut bytes = Vec::new();
        if !self.map().read(owner.field(slot::NAME), slot::NAME_SIZE, &mut bytes) {
            return None;
        }
        Process::new(owner, state, &bytes, word)
    }

    /// Every process that has a slot.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let owner = |index: usize| {
            let state = self.word(SLOTS_AT + index * slot::SIZE + slot::STATE).ok()?.load(Ordering::Acquire);
            Some(Owner::new(index, (state >> 32) as u32))
        };
        let used = self.word(header::SLOTS_USED).map_or(0, |used| used.load(Ordering::Acquire) as usize);
        (0..used.min(SLOTS)).filter_map(owner).filter_map(|owner| self.process(owner)).collect()
    }

    /// How the process ended, if it did and somebody wrote it down.
    #[must_use]
    pub fn end(&self, owner: Owner) -> Option<End> {
        End::from_word(self.end_word(owner)?.load(Ordering::Acquire))
    }

    /// The futex word that holds the process's id; zero until it has one.
    #[must_use]
    pub fn pid_word(&self, owner: Owner) -> Option<&AtomicU32> {
        // The low half: little-endian, as everything here.
        self.map().u32(owner.field(slot::PID))
    }

    /// Writes down the id of a process that was just started for a reserved slot, and tells who waits for it; not if that
    /// one has given up meanwhile.
    pub fn record_pid(&'static self, owner: Owner, pid: u32) {
        // Until then nobody else gets the slot.
        let Ok(_lock) = Transaction::begin(self) else { return };
        if self.process(owner).is_some()
            && let Some(word) = self.pid_word(owner)
        {
            word.store(pid, Ordering::Release);
            futex::wake(word, futex::ALL);
        }
    }

    /// The futex word behind [`Self::end`]; zero until then.
    #[must_use]
    pub fn end_word(&self, owner: Owner) -> Option<&AtomicU32> {
        self.map().u32(owner.field(slot::END))
    }

    /// The futex word that counts the ends of a process's children.
    #[must_use]
    pub fn child_events(&self, owner: Owner) -> Option<&AtomicU32> {
        self.map().u32(owner.field(slot::CHILD_EVENTS))
    }

    /// Writes down how a process ended, unless that is known, and tells its parent.
    pub fn record_end(&'static self, owner: Owner, end: End) {
        // Until then nobody else gets the slot; another cleaner may have freed it already.
        let Ok(_lock) = Transaction::begin(self) else { return };
        if self.process(owner).is_some() {
            self.write_end(owner, end);
        }
    }

    /// Writes down the most memory that a process had, in bytes. Before its end is, so that whoever knows the end knows this.
    pub fn record_peak_memory(&'static self, owner: Owner, bytes: u64) {
        // As in [`Self::record_end`].
        let Ok(_lock) = Transaction::begin(self) else { return };
        if self.process(owner).is_some()
            && let Ok(peak) = self.word(owner.field(slot::PEAK_MEMORY))
        {
            peak.store(bytes, Ordering::Release);
        }
    }

    /// The most memory that a process had which has ended, in bytes; `None` if nobody knows.
    #[must_use]
    pub fn peak_memory(&self, owner: Owner) -> Option<u64> {
        let bytes = self.word(owner.field(slot::PEAK_MEMORY)).ok()?.load(Ordering::Acquire);
        // Asked afterwards: until then the slot had not gone to another process.
        self.process(owner)?;
        (bytes > 0).then_some(bytes)
    }

    fn write_end(&self, owner: Owner, end: End) {
        if let Some(word) = self.end_word(owner)
            && word.compare_exchange(0, end.word(), Ordering::Release, Ordering::Relaxed).is_ok()
        {
            futex::wake(word, futex::ALL);
            self.tell_parent(owner);
        }
    }

    fn tell_parent(&self, owner: Owner) {
        let parent = self.process(owner).and_then(|process| process.parent);
        if let Some(events) = parent.and_then(|parent| self.child_events(parent)) {
            events.fetch_add(1, Ordering::Release);
            futex::wake(events, futex::ALL);
        }
    }

    /// Marks the process as ended, so that whatever it holds counts as left behind.
    pub(crate) fn mark_ended(&'static self, owner: Owner) -> Result<bool, Error> {
        let mut transaction = Transaction::begin(self)?;
        let state = transaction.get(owner.field(slot::STATE))?;
        if (state >> 32) as u32 != owner.generation() || matches!(state & 0xffff_ffff, FREE | FORSAKEN) {
            return Ok(false);
        }
        transaction.set(owner.field(slot::STATE), state >> 32 << 32 | ENDED)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Whether the slot still belongs to this process, which was marked as ended.
    pub(crate) fn is_marked_ended(&self, owner: Owner) -> Result<bool, Error> {
        let state = self.word(owner.field(slot::STATE))?.load(Ordering::Acquire);
        Ok(state == u64::from(owner.generation()) << 32 | ENDED)
    }

    /// Frees the slot of an ended process. Its locks stay recognisable as a dead process's by the generation.
    pub(crate) fn free_slot(&'static self, owner: Owner) -> Result<(), Error> {
        let _lock = Transaction::begin(self)?;
        let state = self.word(owner.field(slot::STATE))?;
        let seen = state.load(Ordering::Acquire);
        if (seen >> 32) as u32 == owner.generation() && !matches!(seen & 0xffff_ffff, ARRIVING | LIVE | FORSAKEN) {
            if matches!(self.end(owner), Some(End::Status(ExitStatus::Signaled(_)) | End::Unknown)) {
                self.forget_last_words(owner);
            }
            // Past the log, because a process that was reserved for may arrive in this instant, by one store to this
            // word: then it stays.
            let free = seen >> 32 << 32 | FREE;
            let _ = state.compare_exchange(seen, free, Ordering::Release, Ordering::Relaxed);
        }
        Ok(())
    }
}
