//! Mappings of memory files: the real ones.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::atomic::{AtomicU32, AtomicU64};
use crate::memory::{MemoryFile, PAGE};

/// A mapping, shared unless it is made as a copy, unmapped when dropped. All accesses are checked against its size.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    size: usize,
    writable: bool,
}

// SAFETY: a mapping is memory, valid from every thread; it is only reached through atomics and through the copying
// functions below, whose callers own the bytes by protocol.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole file for reading and writing.
    ///
    /// # Errors
    /// `ENOMEM` under RLIMIT_AS.
    pub fn whole(file: &MemoryFile) -> Result<Self, Errno> {
        Self::map(file, 0, file.size(), ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// Maps a range, widened to whole pages, for reading only: a write through it is a fault in this process,
    /// not a change in all of them. Returns the mapping and the position of `offset` in it.
    ///
    /// # Errors
    /// `EINVAL` outside the file, `ENOMEM` under RLIMIT_AS.
    pub fn read_only(file: &MemoryFile, offset: usize, length: usize) -> Result<(Self, usize), Errno> {
        Self::range(file, offset, length, ProtFlags::READ, MapFlags::SHARED)
    }

    /// Maps a range, widened to whole pages, as a copy of this process's own, made page by page: what is written is seen
    /// here alone, and pages that are only read stay those of the file. So whoever maps it sees to it that nobody writes to
    /// them. Returns the mapping and the position of `offset` in it.
    ///
    /// # Errors
    /// `EINVAL` outside the file, `ENOMEM` under RLIMIT_AS.
    pub fn copy_on_write(file: &MemoryFile, offset: usize, length: usize) -> Result<(Self, usize), Errno> {
        Self::range(file, offset, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }

    fn range(
        file: &MemoryFile,
        offset: usize,
        length: usize,
        protection: ProtFlags,
        kind: MapFlags,
    ) -> Result<(Self, usize), Errno> {
        let start = offset / PAGE * PAGE;
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        if end > file.size() {
            return Err(Errno::INVAL);
        }
        let mapping = Self::map(file, start, (end - start).max(1), protection, kind)?;
        Ok((mapping, offset - start))
    }

    fn map(
        file: &MemoryFile,
        offset: usize,
        size: usize,
        protection: ProtFlags,
        kind: MapFlags,
    ) -> Result<Self, Errno> {
        let flags = kind | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice; it overlaps nothing of ours. The file is
        // sealed against shrinking, so every page of the mapping stays backed.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, protection, flags, file, offset as u64) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, size, writable: protection.contains(ProtFlags::WRITE) })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The word at `offset`, or `None` if it is misaligned or outside.
    #[must_use]
    pub fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        let pointer = self.word(offset, 4)?;
        // SAFETY: in bounds, aligned and mapped writable for as long as `self` lives (checked by `word`); shared
        // memory is only ever accessed atomically or by an owner.
        Some(unsafe { AtomicU32::from_ptr(pointer.cast()) })
    }

    /// The double word at `offset`, or `None` if it is misaligned or outside.
    #[must_use]
    pub fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        let pointer = self.word(offset, 8)?;
        // SAFETY: as in `u32`.
        Some(unsafe { AtomicU64::from_ptr(pointer.cast()) })
    }

    fn word(&self, offset: usize, width: usize) -> Option<*mut u8> {
        let fits = offset.checked_add(width).is_some_and(|end| end <= self.size);
        (fits && offset.is_multiple_of(width) && self.writable).then(|| self.base.as_ptr().wrapping_add(offset))
    }

    /// Copies bytes in. `false`, and nothing done, when they do not fit.
    ///
    /// The caller owns the range by protocol: a block that nobody else can reach yet, or the space behind the tail
    /// of a channel whose lock it holds.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.size) && self.writable;
        if fits {
            // SAFETY: in bounds and writable (checked above); `bytes` is private memory, so no overlap. Another
            // process that broke the protocol could race, which tears data and is checked for by readers.
            unsafe { self.base.as_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        fits
    }

    /// Maps the pages of a range now, those that the file has ([`madvise(2)`], MADV_POPULATE_READ): all at once takes less
    /// time than a fault for each. Older kernels than 5.14 do not know it, and go on with faults.
    ///
    /// [`madvise(2)`]: https://man7.org/linux/man-pages/man2/madvise.2.html
    pub fn populate(&self, offset: usize, length: usize) {
        let start = offset / PAGE * PAGE;
        if let Some(size) = offset.checked_add(length).filter(|end| *end <= self.size).map(|end| end - start) {
            // SAFETY: within the mapping (checked above), from a page's beginning; the advice changes no byte of it.
            let _ =
                unsafe { rustix::mm::madvise(self.base.as_ptr().add(start).cast(), size, Advice::LinuxPopulateRead) };
        }
    }

    /// Appends `length` bytes from `offset` to `into`. `false`, and nothing done, when they lie outside.
    #[must_use]
    pub fn read(&self, offset: usize, length: usize, into: &mut Vec<u8>) -> bool {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if fits {
            into.reserve(length);
            // SAFETY: source in bounds (checked above); the vector has room for `length` more bytes, which are
            // initialised by the copy before the length is set.
            unsafe {
                let end = into.as_mut_ptr().add(into.len());
                end.copy_from_nonoverlapping(self.base.as_ptr().add(offset), length);
                into.set_len(into.len() + length);
            }
        }
        fits
    }

    /// Fills `into` with the bytes from `offset`. `false`, and nothing done, when they lie outside.
    #[must_use]
    pub fn read_into(&self, offset: usize, into: &mut [u8]) -> bool {
        let fits = offset.checked_add(into.len()).is_some_and(|end| end <= self.size);
        if fits {
            // SAFETY: source in bounds (checked above); `into` is private memory of the same length.
            unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.base.as_ptr().add(offset), into.len()) };
        }
        fits
    }

    /// The address of `offset`, for a buffer view whose keeper also keeps the mapping.
    #[must_use]
    pub fn address(&self, offset: usize) -> Option<NonNull<u8>> {
        (offset <= self.size).then(|| {
            // SAFETY: at most one past the end of the mapping (checked above).
            unsafe { self.base.add(offset) }
        })
    }

    /// Keeps the mapping for the rest of the process and gives a reference without end to it.
    #[must_use]
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and every reference into it borrowed `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_mappings_show_the_same_bytes() {
        let file = MemoryFile::create("test", 4 * PAGE).unwrap();
        let first = Mapping::whole(&file).unwrap();
        let (second, position) = Mapping::read_only(&file, PAGE + 8, 16).unwrap();
        first.u64(PAGE + 8).unwrap().store(7, Ordering::Relaxed);
        let mut bytes = Vec::new();
        assert!(second.read(position, 8, &mut bytes));
        assert_eq!(bytes, 7u64.to_ne_bytes());
        assert!(second.u64(position).is_none(), "a read-only mapping gives out no words");
        assert!(!second.write(position, b"x"));
        first.populate(PAGE + 8, PAGE);
        first.populate(4 * PAGE, PAGE);
        first.populate(usize::MAX, 2);
        assert!(second.read(position, 8, &mut bytes));
    }

    #[test]
    fn what_is_written_to_a_copy_is_seen_there_alone() {
        let file = MemoryFile::create("test", 4 * PAGE).unwrap();
        let whole = Mapping::whole(&file).unwrap();
        assert!(whole.write(PAGE, b"shared") && whole.write(2 * PAGE, b"shared"));
        let (copy, position) = Mapping::copy_on_write(&file, PAGE, 2 * PAGE).unwrap();
        assert!(copy.write(position, b"mine"));
        let [mut first, mut second, mut mine] = [const { Vec::new() }; 3];
        assert!(whole.read(PAGE, 6, &mut first) && copy.read(position + PAGE, 6, &mut second));
        assert!(copy.read(position, 6, &mut mine));
        assert_eq!([&first[..], &second[..], &mine[..]], [&b"shared"[..], b"shared", b"mineed"]);
        assert_eq!(file.allocated(), Ok(2 * PAGE as u64));
        assert!(Mapping::copy_on_write(&file, 4 * PAGE, 1).is_err());
    }

    #[test]
    fn accesses_outside_are_refused() {
        let file = MemoryFile::create("test", PAGE).unwrap();
        let map = Mapping::whole(&file).unwrap();
        assert!(map.u32(PAGE).is_none());
        assert!(map.u32(2).is_none(), "misaligned");
        assert!(map.u64(usize::MAX - 7).is_none());
        assert!(!map.write(PAGE - 1, b"ab"));
        assert!(!map.read(usize::MAX, 2, &mut Vec::new()));
        assert!(Mapping::read_only(&file, PAGE, 1).is_err());
    }
}
