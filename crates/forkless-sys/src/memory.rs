//! Sealed memory files and their mappings.
//!
//! A [`MemoryFile`] has no name in any file system: the kernel frees it with its last descriptor and mapping, also
//! after SIGKILL of everyone ([`memfd_create(2)`]). It is created at full size and sealed against shrinking and
//! growing, so that nobody can truncate it and turn a read elsewhere into SIGBUS. Pages exist only once touched.
//!
//! [`memfd_create(2)`]: https://man7.org/linux/man-pages/man2/memfd_create.2.html

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom};
use rustix::io::Errno;

use crate::named::Identity;

#[cfg(not(loom))]
pub use crate::mapping::Mapping;
#[cfg(loom)]
pub use crate::model::Mapping;

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

    /// The files with this name that a process has open, each opened once more to be read, and which file each is. Those
    /// that are `known` already are left out. The process does not notice.
    ///
    /// # Errors
    /// `EACCES` if the process is not ours to look at, `ENOENT` if it is gone.
    pub fn of_process(pid: u32, name: &str, known: &[Identity]) -> Result<Vec<(Identity, Self)>, Errno> {
        let directory = format!("/proc/{pid}/fd");
        let link = format!("/memfd:{name} (deleted)");
        let entries =
            std::fs::read_dir(&directory).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut found: Vec<(Identity, Self)> = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if std::fs::read_link(&path).is_ok_and(|target| target.as_os_str() == link.as_str())
                // Whatever the descriptor is closed for, or another file by now, is not what is looked for.
                && let Ok(fd) = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                && let Ok(fd) = crate::above_standard(fd)
                && let Ok(status) = rustix::fs::fstat(&fd)
                && let identity = (status.st_dev, status.st_ino)
                && !known.iter().chain(found.iter().map(|(identity, _)| identity)).any(|other| *other == identity)
                && let Ok(file) = Self::adopt(fd)
            {
                found.push((identity, file));
            }
        }
        Ok(found)
    }

    /// Bytes of pages that it has, in memory or in swap.
    ///
    /// # Errors
    /// Whatever `fstat` reports.
    pub fn allocated(&self) -> Result<u64, Errno> {
        // In units of 512 bytes, whatever the file system's blocks are: `inode(7)`.
        Ok(rustix::fs::fstat(&self.fd)?.st_blocks.unsigned_abs() * 512)
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The file opened once more: a descriptor for reading and writing with a position of its own, at `offset`.
    ///
    /// # Errors
    /// `EMFILE` without descriptors, `ENOENT` without `/proc`.
    pub fn open_at(&self, offset: usize) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).and_then(crate::above_standard)?;
        rustix::fs::seek(&fd, SeekFrom::Start(offset as u64))?;
        Ok(fd)
    }

    /// Reads at `offset`, without allocating what is not there; how many bytes were read.
    ///
    /// # Errors
    /// Whatever `pread` reports.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::pread(&self.fd, into, offset as u64)
    }

    /// Writes all of the bytes at `offset`. For pages that are not there yet this takes half as long as through a mapping:
    /// none is zeroed first, and none faults. And lack of memory is an error, not a signal.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when there is no memory, `EFBIG` under RLIMIT_FSIZE; some of the bytes may be there then.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        within_file_limit(offset.saturating_add(bytes.len()))?;
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.fd, &bytes[done..], (offset + done) as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
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

/// `ftruncate`, with SIGXFSZ out of the way.
pub(crate) fn set_length(fd: &OwnedFd, size: usize) -> Result<(), Errno> {
    within_file_limit(size)?;
    rustix::fs::ftruncate(fd, size as u64)
}

/// Whether RLIMIT_FSIZE lets a file have so many bytes. The kernel sends SIGXFSZ besides failing with EFBIG, and its default
/// action ends the process: asking first avoids the signal.
fn within_file_limit(size: usize) -> Result<(), Errno> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| (size as u64) > limit) { Err(Errno::FBIG) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_sealed() {
        let file = MemoryFile::create("test", PAGE).unwrap();
        assert_eq!(rustix::fs::ftruncate(&file.fd, 0), Err(Errno::PERM));
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(MemoryFile::adopt(open).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn what_is_written_at_a_place_is_there() {
        let file = MemoryFile::create("test", 4 * PAGE).unwrap();
        let map = Mapping::whole(&file).unwrap();
        assert_eq!(file.write_at(PAGE - 1, b"abc"), Ok(()));
        let mut bytes = Vec::new();
        assert!(map.read(PAGE - 2, 5, &mut bytes));
        assert_eq!(bytes, b"\0abc\0");
        assert!(file.write_at(4 * PAGE - 1, b"ab").is_err(), "sealed against growing");
        assert!(file.write_at(usize::MAX, b"ab").is_err());
    }

    #[test]
    fn a_process_s_files_are_found_by_name() {
        let file = MemoryFile::create("test-found", 8 * PAGE).unwrap();
        let again = rustix::io::fcntl_dupfd_cloexec(&file.fd, 3).unwrap();
        let map = Mapping::whole(&file).unwrap();
        assert!(map.write(2 * PAGE, b"here"));
        let me = std::process::id();
        let mut found = MemoryFile::of_process(me, "test-found", &[]).unwrap();
        assert_eq!(found.len(), 1, "one file behind two descriptors");
        let (identity, same) = found.pop().unwrap();
        let mut bytes = [0; 4];
        assert_eq!((same.read_at(2 * PAGE, &mut bytes), &bytes), (Ok(4), b"here"));
        assert_eq!((same.size(), same.allocated()), (8 * PAGE, Ok(PAGE as u64)));
        assert!(Mapping::whole(&same).is_err(), "nothing can be changed through it");
        assert!(MemoryFile::of_process(me, "test-found", &[identity]).unwrap().is_empty());
        assert_eq!(MemoryFile::of_process(u32::MAX, "test-found", &[]).unwrap_err(), Errno::NOENT);
        drop(again);
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
