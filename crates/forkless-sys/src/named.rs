//! Memory under a name, for programs that are not of the tree: what `shm_open(3)` finds.
//!
//! The only names that we put into a file system, and only on request. The file gets its size, and its pages, before
//! it gets its name, so a stranger never sees half of one; and whoever is to take the name away has been told
//! which file it is before there is one.

use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// Where glibc and musl look for them.
const FOLDER: &str = "/dev/shm";

/// Which file it is, whatever its name.
pub type Identity = (u64, u64);

/// A file of memory without a name so far.
#[derive(Debug)]
pub struct Unnamed {
    fd: OwnedFd,
}

impl Unnamed {
    /// A file of so many bytes, all zero, with pages for them. Nobody but this user may open it.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` without memory, `EFBIG` under RLIMIT_FSIZE; `EOPNOTSUPP` or `EISDIR` where there is no `/dev/shm` of the usual kind.
    pub fn create(size: usize) -> Result<Self, Errno> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(FOLDER, flags, Mode::RUSR | Mode::WUSR).and_then(crate::above_standard)?;
        crate::memory::set_length(&fd, size)?;
        loop {
            match rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, size as u64) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => return Ok(Self { fd }),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Which file it is.
    ///
    /// # Errors
    /// Whatever `fstat` reports.
    pub fn identity(&self) -> Result<Identity, Errno> {
        identity(self.fd.as_fd())
    }

    /// Gives it a name ([`linkat(2)`]) and returns its descriptor.
    ///
    /// # Errors
    /// `EEXIST` if something has that name; `ENOENT` without `/proc`.
    ///
    /// [`linkat(2)`]: https://man7.org/linux/man-pages/man2/linkat.2.html
    pub fn name(self, name: &str) -> Result<OwnedFd, Errno> {
        let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, own, rustix::fs::CWD, path(name)?, AtFlags::SYMLINK_FOLLOW)?;
        Ok(self.fd)
    }
}

/// Opens what has this name, if it is that file.
///
/// # Errors
/// `ENOENT` if nothing has the name, or something else.
pub fn open(name: &str, wanted: Identity) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path(name)?, flags, Mode::empty()).and_then(crate::above_standard)?;
    if identity(fd.as_fd())? == wanted { Ok(fd) } else { Err(Errno::NOENT) }
}

/// Takes the name away, if it is that file's. Whether it was.
///
/// Should somebody take the name away and give it to another file between the two steps of this, that one loses it; the
/// system has no call that would compare first.
#[must_use]
pub fn remove(name: &str, wanted: Identity) -> bool {
    let Ok(path) = path(name) else { return false };
    let found = rustix::fs::lstat(&path).map(|found| (found.st_dev, found.st_ino));
    found == Ok(wanted) && rustix::fs::unlink(&path).is_ok()
}

/// Whether something has this name.
#[must_use]
pub fn exists(name: &str) -> bool {
    path(name).is_ok_and(|path| rustix::fs::lstat(path).is_ok())
}

fn identity(fd: BorrowedFd<'_>) -> Result<Identity, Errno> {
    rustix::fs::fstat(fd).map(|found| (found.st_dev, found.st_ino))
}

/// Names come from shared memory too: none leads out of the folder.
fn path(name: &str) -> Result<PathBuf, Errno> {
    let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    if is_plain { Ok(Path::new(FOLDER).join(name)) } else { Err(Errno::INVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_file() {
        let name = format!("forkless-test-{}", std::process::id());
        let file = Unnamed::create(5000).unwrap();
        let identity = file.identity().unwrap();
        assert!(!exists(&name));
        let fd = file.name(&name).unwrap();
        assert_eq!(rustix::fs::fstat(&fd).unwrap().st_size, 5000);
        assert_eq!(Unnamed::create(1).unwrap().name(&name).unwrap_err(), Errno::EXIST);
        assert_eq!(super::identity(open(&name, identity).unwrap().as_fd()), Ok(identity));
        let other = (identity.0, identity.1 + 1);
        assert_eq!(open(&name, other).unwrap_err(), Errno::NOENT);
        assert!(!remove(&name, other) && exists(&name));
        assert!(remove(&name, identity) && !exists(&name) && !remove(&name, identity));
    }

    #[test]
    fn no_name_leads_elsewhere() {
        for name in ["", ".", "..", "a/b", "/a", "../a", "a\0b"] {
            assert_eq!(open(name, (0, 0)).unwrap_err(), Errno::INVAL, "{name:?}");
            assert!(!remove(name, (0, 0)) && !exists(name));
        }
    }
}
