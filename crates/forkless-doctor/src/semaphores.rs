//! Who has the locks and semaphores of `multiprocessing`.
//!
//! Such an object is a `sem_t` ([`sem_overview(7)`]): a value in a page of a nameless file that each process maps. The
//! kernel knows who sleeps on it, nobody knows who has it. But each process has a Python object for it, a `SemLock`, which
//! counts how often this process, and which thread, has taken it (that is how `RLock` works, and how a release too many
//! is noticed). The object is found by what must be in it: the address of the page, and a type of the right name. The
//! holders are those processes whose count is above zero; if the value says taken and no count does, who took it has ended.
//!
//! [`sem_overview(7)`]: https://man7.org/linux/man-pages/man7/sem_overview.7.html

use std::collections::HashMap;

use forkless_sys::space::{Mapped, Memory};

use crate::facts::Kind;

/// Which semaphore: the device and inode of its file.
pub(crate) type Identity = (String, u64);

/// A semaphore as one process has it.
pub(crate) struct Known {
    pub(crate) kind: Kind,
    /// Whether this process has taken it.
    pub(crate) is_held: bool,
    /// By which thread, as `pthread_self` says.
    pub(crate) thread: u64,
}

/// Which semaphores a process maps, by the addresses of their pages.
pub(crate) fn mapped(mappings: &[Mapped]) -> HashMap<u64, Identity> {
    let semaphores = mappings.iter().filter(|mapped| mapped.path.starts_with("/dev/shm/sem."));
    semaphores.map(|mapped| (mapped.start, mapped.file.clone())).collect()
}

/// The value of a semaphore: how many may take it.
pub(crate) fn value(memory: &Memory, address: u64) -> Option<u32> {
    memory.half(address)
}

/// Bytes of memory that are looked through in one process at most; what is beyond is not.
const MOST: u64 = 1 << 30;
const STRIDE: usize = 1 << 18;
/// Of `SemLock`, from its place for the address on: the thread, then ints: count, maximum, kind.
const FIELDS: usize = 32;

/// Looks through a process's memory for its objects.
pub(crate) fn find(memory: &Memory, mappings: &[Mapped]) -> HashMap<Identity, Known> {
    let addresses = mapped(mappings);
    let mut found: HashMap<Identity, Known> = HashMap::new();
    let Some((&lowest, &highest)) = addresses.keys().min().zip(addresses.keys().max()) else { return found };
    let mut types = HashMap::new();
    let mut buffer = vec![0; STRIDE];
    let mut left = MOST;
    for heap in mappings.iter().filter(|mapped| is_heap(mapped)) {
        for start in (heap.start..heap.end).step_by(STRIDE) {
            let length = STRIDE.min((heap.end - start) as usize);
            if left < length as u64 {
                return found;
            }
            left -= length as u64;
            let read = memory.read(start, &mut buffer[..length]);
            for (index, word) in buffer[..read].chunks_exact(8).enumerate() {
                let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
                if !(lowest..=highest).contains(&word) {
                    continue;
                }
                let at = start + 8 * index as u64;
                if let Some(identity) = addresses.get(&word)
                    && let Some(known) = object(memory, at, &mut types)
                {
                    // A process may have several objects for one semaphore.
                    let is_better = known.is_held || !found.contains_key(identity);
                    if is_better {
                        found.insert(identity.clone(), known);
                    }
                }
            }
        }
    }
    found
}

/// Whether Python objects may be there.
fn is_heap(mapped: &Mapped) -> bool {
    mapped.writable
        && !mapped.shared
        && mapped.file.1 == 0
        && (mapped.path.is_empty() || mapped.path == "[heap]" || mapped.path.starts_with("[anon"))
}

/// The object whose place for the address is here, if it is one. `types` has what is known of types so far.
fn object(memory: &Memory, at: u64, types: &mut HashMap<u64, bool>) -> Option<Known> {
    // Where an object was, there is a pointer to the next free piece of memory in place of its count of references.
    const REFERENCES: std::ops::Range<u64> = 1..1 << 31;
    memory.word(at.checked_sub(16)?).filter(|count| REFERENCES.contains(count))?;
    let kind_of = memory.word(at.checked_sub(8)?)?;
    let is_semaphore = *types.entry(kind_of).or_insert_with(|| {
        const NAME: u64 = 24;
        const WANTED: &[u8] = b"_multiprocessing.SemLock\0";
        let name = memory.field(kind_of, NAME).and_then(|name| memory.bytes(name, WANTED.len()));
        name.is_some_and(|name| name == WANTED)
    });
    let bytes = memory.bytes(at, FIELDS).filter(|_| is_semaphore)?;
    let int = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (count, most, kind) = (int(16)?, int(20)?, int(24)?);
    let kind = match (kind, most) {
        (0, _) => Kind::RLock,
        (1, 1) => Kind::Lock,
        (1, _) => Kind::Semaphore,
        _ => return None,
    };
    let thread = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    Some(Known { kind, is_held: count > 0, thread })
}
