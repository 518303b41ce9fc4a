//! A word that the kernel marks when its process dies.
//!
//! The word is the first of a process-shared robust `pthread_mutex_t` that the process locks once and never
//! unlocks. When the locking thread ends, for whatever reason, the kernel walks its robust list, sets
//! `FUTEX_OWNER_DIED` in the word and wakes a sleeper if `FUTEX_WAITERS` is set. glibc stays the owner of the
//! robust list; the only assumption about its layout is that the futex word comes first.
//!
//! Sources: [`get_robust_list(2)`], the kernel's [robust futex ABI], `futex(2)`.
//!
//! [`get_robust_list(2)`]: https://man7.org/linux/man-pages/man2/get_robust_list.2.html
//! [robust futex ABI]: https://docs.kernel.org/locking/robust-futex-ABI.html
#![allow(unsafe_code)]

use crate::atomic::{AtomicU32, Ordering};
use crate::memory::Mapping;
use rustix::io::Errno;

/// Bytes to set aside for one word and what glibc keeps beside it.
pub const SIZE: usize = 64;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= SIZE);

/// `linux/futex.h`.
const FUTEX_WAITERS: u32 = 0x8000_0000;
pub(crate) const FUTEX_OWNER_DIED: u32 = 0x4000_0000;

/// Locks the mutex at `offset` for the calling thread, for the rest of its life.
///
/// The mark is about the thread: call it from the main thread. The bytes must be zero or what a dead process left.
///
/// # Errors
/// `EINVAL` outside the mapping; whatever the C library reports.
pub fn register(map: &'static Mapping, offset: usize) -> Result<(), Errno> {
    let word = map.u32(offset).ok_or(Errno::INVAL)?;
    if !map.write(offset, &[0; SIZE]) {
        return Err(Errno::INVAL);
    }
    lock(map, offset)?;
    // With the flag set, the kernel wakes one sleeper at death; that one wakes the others.
    word.fetch_or(FUTEX_WAITERS, Ordering::Release);
    Ok(())
}

fn lock(map: &'static Mapping, offset: usize) -> Result<(), Errno> {
    let mutex = map.address(offset).ok_or(Errno::INVAL)?.as_ptr().cast::<libc::pthread_mutex_t>();
    // SAFETY: `mutex` points at SIZE zeroed bytes that stay mapped for the life of the process (`'static`), are
    // aligned to eight (the word check, and slots are cache-line aligned), and belong to this slot alone, so no
    // other thread or process initialises them.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        check(libc::pthread_mutexattr_init(&raw mut attributes))?;
        check(libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED))?;
        check(libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST))?;
        check(libc::pthread_mutex_init(mutex, &raw const attributes))?;
        check(libc::pthread_mutexattr_destroy(&raw mut attributes))?;
        check(libc::pthread_mutex_lock(mutex))
    }
}

/// Whether the word says that its thread has ended. A word of zero says nothing: nobody registered.
#[must_use]
pub fn died(word: u32) -> bool {
    word & FUTEX_OWNER_DIED != 0
}

/// Whether a thread is registered and has not ended.
#[must_use]
pub fn alive(word: &AtomicU32) -> bool {
    let word = word.load(Ordering::Acquire);
    word != 0 && !died(word)
}

fn check(code: libc::c_int) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::futex;
    use crate::memory::MemoryFile;
    use std::time::Duration;

    #[test]
    fn the_end_of_the_thread_is_marked_and_wakes() {
        let file = MemoryFile::create("test", 4096).unwrap();
        let map = Mapping::whole(&file).unwrap().leak();
        let word = map.u32(64).unwrap();
        assert!(!alive(word));
        std::thread::spawn(|| register(map, 64).unwrap()).join().unwrap();
        // join() returns when the kernel clears the thread id, which it does after walking the robust list.
        assert!(died(word.load(Ordering::Acquire)));
        assert_eq!(futex::wait(word, 0, Duration::from_secs(60)), futex::Woken::Look);
    }

    #[test]
    fn a_living_thread_is_alive() {
        let file = MemoryFile::create("test", 4096).unwrap();
        let map = Mapping::whole(&file).unwrap().leak();
        register(map, 0).unwrap();
        assert!(alive(map.u32(0).unwrap()));
    }
}
