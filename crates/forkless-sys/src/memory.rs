//! Sealed memory files and their mappings.
//!
//! A [`MemoryFile`] has no name in any file system: the kernel frees it with its last descriptor and mapping, also
//! after SIGKILL of everyone ([`memfd_create(2)`]). It is created at full size and sealed against shrinking and
//! growing, so that nobody can truncate it and turn a read elsewhere into SIGBUS. Pages exist only once touched.
//!
//! [`memfd_create(2)`]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// The page size assumed for layout; x86-64 and most AArch64 kernels have it, and larger pages only cost alignment.
pub const PAGE: usize = 4096;

/// A sealed, sparse, nameless file of fixed size.
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    size: usize,
}

impl MemoryFile {
    /// Creates a file of `size` bytes, all zero, none of them allocated.
    ///
    /// # Errors
    /// `EFBIG` under RLIMIT_FSIZE, `EMFILE` without descriptors, `ENOMEM`.
    pub fn create(name: &str, size: usize) -> Result<Self, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // NOEXEC_SEAL (Linux 6.3) says that this is data; older kernels do not know the flag.
        let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| rustix::fs::memfd_create(name, flags))
            .and_then(crate::above_standard)?;
        set_length(&fd, size)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { fd, size })
    }

    /// Takes up a descriptor that another process handed over.
    ///
    /// # Errors
    /// `EINVAL` if it is not a memory file sealed against changes of size; whatever `fstat` reports.
    pub fn adopt(fd: OwnedFd) -> Result<Self, Errno> {
        let seals = rustix::fs::fcntl_get_seals(&fd)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(Errno::INVAL);
        }
        let size = rustix::fs::fstat(&fd)?.st_size;
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        Ok(Self { fd, size })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives the pages that lie wholly inside the range back to the system; they read as zero afterwards.
    pub fn punch(&self, offset: usize, length: usize) {
        let start = offset.next_multiple_of(PAGE);
        let end = (offset + length) / PAGE * PAGE;
        if start < end {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Failure only means that the memory stays with us until the tree ends.
            let _ = rustix::fs::fallocate(&self.fd, flags, start as u64, (end - start) as u64);
        }
    }

    /// Allocates the pages of the range now, so that lack of memory is an error here and not a signal later.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when there is no memory. A file system that cannot preallocate reports success.
    pub fn reserve(&self, offset: usize, length: usize) -> Result<(), Errno> {
        loop {
            match rustix::fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, offset as u64, length as u64) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                other => return other,
            }
        }
    }
}

impl MemoryFile {
    /// Takes the file's record lock ([`fcntl_locking(2)`]), which the kernel gives back should this process die. It keeps
    /// processes apart, not threads of one process.
    ///
    /// # Errors
    /// Whatever `fcntl` reports other than an interruption.
    ///
    /// [`fcntl_locking(2)`]: https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
    pub fn lock(&self) -> Result<RecordLock<'_>, Errno> {
        while let Err(errno) = rustix::fs::fcntl_lock(&self.fd, FlockOperation::LockExclusive) {
            if errno != Errno::INTR {
                return Err(errno);
            }
        }
        Ok(RecordLock { file: self })
    }
}

/// The record lock of a [`MemoryFile`], held until dropped.
#[derive(Debug)]
pub struct RecordLock<'a> {
    file: &'a MemoryFile,
}

impl Drop for RecordLock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::fcntl_lock(&self.file.fd, FlockOperation::Unlock);
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `ftruncate`, with SIGXFSZ out of the way: under RLIMIT_FSIZE the kernel sends it besides failing with EFBIG,
/// and its default action ends the process. Asking for the limit first avoids the signal.
fn set_length(fd: &OwnedFd, size: usize) -> Result<(), Errno> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| (size as u64) > limit) {
        return Err(Errno::FBIG);
    }
    rustix::fs::ftruncate(fd, size as u64)
}

/// A shared mapping, unmapped when dropped. All accesses are checked against its size.
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
        Self::map(file, 0, file.size, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps a range, widened to whole pages, for reading only: a write through it is a fault in this process,
    /// not a change in all of them. Returns the mapping and the position of `offset` in it.
    ///
    /// # Errors
    /// `EINVAL` outside the file, `ENOMEM` under RLIMIT_AS.
    pub fn read_only(file: &MemoryFile, offset: usize, length: usize) -> Result<(Self, usize), Errno> {
        let start = offset / PAGE * PAGE;
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        if end > file.size {
            return Err(Errno::INVAL);
        }
        let mapping = Self::map(file, start, (end - start).max(1), ProtFlags::READ)?;
        Ok((mapping, offset - start))
    }

    fn map(file: &MemoryFile, offset: usize, size: usize, protection: ProtFlags) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice; it overlaps nothing of ours. The file is
        // sealed against shrinking, so every page of the mapping stays backed.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, protection, flags, &file.fd, offset as u64) }?;
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

    #[test]
    fn the_size_is_sealed() {
        let file = MemoryFile::create("test", PAGE).unwrap();
        assert_eq!(rustix::fs::ftruncate(&file.fd, 0), Err(Errno::PERM));
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(MemoryFile::adopt(open).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn punched_pages_read_as_zero() {
        let file = MemoryFile::create("test", 4 * PAGE).unwrap();
        let map = Mapping::whole(&file).unwrap();
        assert!(map.write(0, &[1; 4 * PAGE]));
        file.punch(PAGE - 1, 2 * PAGE);
        let mut bytes = Vec::new();
        assert!(map.read(0, 4 * PAGE, &mut bytes));
        assert!(bytes[..PAGE].iter().all(|&byte| byte == 1));
        assert!(bytes[PAGE..2 * PAGE].iter().all(|&byte| byte == 0));
        assert!(bytes[2 * PAGE..].iter().all(|&byte| byte == 1));
    }
}
