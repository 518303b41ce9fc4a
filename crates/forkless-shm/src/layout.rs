//! Where things are in the arena. Everything is a `u64` or a `u32` at a fixed offset; version [`VERSION`].

use forkless_sys::memory::PAGE;

/// `forkless` in ASCII, little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"forkless");
/// Changes with any change to this file or to a kind of block.
pub(crate) const VERSION: u64 = 6;

/// The header: words of the first page.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    /// Random, names the arena in handles.
    pub(crate) const ID: usize = 16;
    pub(crate) const SIZE: usize = 24;
    /// u32: the robust lock of everything the transactions change.
    pub(crate) const LOCK: usize = 32;
    /// The first byte of the heap never allocated so far.
    pub(crate) const FRESH: usize = 40;
    /// Bytes of pages in free blocks, kept for reuse.
    pub(crate) const WARM: usize = 48;
    /// How many slots have ever been used: the rest of the table has no pages yet.
    pub(crate) const SLOTS_USED: usize = 56;
    /// One list head per size class: of free blocks, then of those among them that have no pages.
    pub(crate) const FREE: usize = 64;
    pub(crate) const COLD: usize = FREE + 8 * 24;
    /// One more than the bytes that WARM may come to; 0 as long as nobody has decided.
    pub(crate) const WARM_LIMIT: usize = 576;
    /// Owner words of the processes that wait for a job, 0 for none.
    pub(crate) const STANDBYS: usize = 1024;
    /// One list head per bucket of the directory of names: the first block there, 0 for none.
    pub(crate) const NAMES: usize = STANDBYS + 8 * super::STANDBYS;
    /// The transaction log: a count, then pairs (offset, value).
    pub(crate) const LOG: usize = 2048;
}

/// Pairs that fit into the log.
pub(crate) const LOG_PAIRS: usize = (PAGE - header::LOG - 8) / 16;

/// The most standbys there may be, those of all templates together.
pub(crate) const STANDBYS: usize = 32;

/// Buckets of the directory of names.
pub(crate) const NAME_BUCKETS: usize = 64;

/// Process slots per tree. The owner word has room for 65,535.
pub(crate) const SLOTS: usize = 4096;
/// The slots begin behind the header.
pub(crate) const SLOTS_AT: usize = PAGE;
/// Behind the slots, for each of them, notes of what its threads wait for.
pub(crate) const WAITS_AT: usize = SLOTS_AT + SLOTS * slot::SIZE;
/// Notes of one process: so many threads of it are seen to wait.
pub(crate) const WAITS: usize = 16;
/// The heap begins behind them.
pub(crate) const HEAP: usize = WAITS_AT + SLOTS * WAITS * wait::SIZE;

/// Fields of a note of a wait.
pub(crate) mod wait {
    /// u64: thread << 32 | the slot's generation << 17 | how many notes before << 1 | whether it is being written; 0 for none.
    pub(crate) const HEAD: usize = 0;
    /// u64: what for << 56 | the offset of the block.
    pub(crate) const WHAT: usize = 8;
    /// u64: the block's generation << 32 | the process that is waited for.
    pub(crate) const WHICH: usize = 16;
    /// u64: since when, in nanoseconds of the monotonic clock.
    pub(crate) const SINCE: usize = 24;
    pub(crate) const SIZE: usize = 32;
}

/// Fields of a slot.
pub(crate) mod slot {
    /// u32, then what glibc keeps beside it: see `forkless_sys::liveness`.
    pub(crate) const LIVE: usize = 0;
    /// u64: generation << 32 | state.
    pub(crate) const STATE: usize = 64;
    /// u64: pid.
    pub(crate) const PID: usize = 72;
    /// u64: start time in clock ticks; with the pid, the identity.
    pub(crate) const STARTED: usize = 80;
    /// u64: the owner word of the process that asked for this one, or 0.
    pub(crate) const PARENT: usize = 88;
    /// u64: a `Role`.
    pub(crate) const ROLE: usize = 96;
    /// u32 futex: 0, or how the process ended or could not start.
    pub(crate) const END: usize = 104;
    /// u32 futex: how many children of this process have ended.
    pub(crate) const CHILD_EVENTS: usize = 108;
    /// u64: the first lease.
    pub(crate) const LEASES: usize = 112;
    /// u64: the count that decides whether the claim holds, 0 for no claim.
    pub(crate) const CLAIM_COUNT_AT: usize = 120;
    /// u64: the value that count must exceed.
    pub(crate) const CLAIM_SEQUENCE: usize = 128;
    /// u64: what was claimed.
    pub(crate) const CLAIM_TAG: usize = 136;
    /// 64 bytes of UTF-8, padded with zeros.
    pub(crate) const NAME: usize = 144;
    pub(crate) const NAME_SIZE: usize = 64;
    /// Of a standby: the handle of its job; u64, u64, u32 futex (0: no job yet).
    pub(crate) const JOB_ARENA: usize = 208;
    pub(crate) const JOB_OFFSET: usize = 216;
    pub(crate) const JOB_GENERATION: usize = 224;
    /// Of a standby: u32, the owner word of its template.
    pub(crate) const TEMPLATE: usize = 228;
    /// Of a template: u64, which files its standbys have as their standard streams.
    pub(crate) const STREAMS: usize = 232;
    /// u64: the most memory that the process has had, in bytes; 0 if that is not known.
    pub(crate) const PEAK_MEMORY: usize = 240;
    pub(crate) const SIZE: usize = 256;
}

const _: () = assert!(slot::NAME + slot::NAME_SIZE <= slot::JOB_ARENA && slot::PEAK_MEMORY + 8 <= slot::SIZE);
const _: () = assert!(header::NAMES + 8 * NAME_BUCKETS <= header::LOG);
const _: () = assert!(header::FREE + 8 * 64 <= header::WARM_LIMIT && header::WARM_LIMIT < header::STANDBYS);
