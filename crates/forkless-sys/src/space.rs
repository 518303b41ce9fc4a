//! The address space of another process, from `/proc`: what is mapped where, and what is in its memory.
//!
//! The process runs on, so what is read is of its own moment. Its memory can be read by those only who may trace it
//! (`PTRACE_MODE_ATTACH`, [`ptrace(2)`]).
//!
//! [`ptrace(2)`]: https://man7.org/linux/man-pages/man2/ptrace.2.html

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

/// A piece of a process's address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Whether the process may write to it.
    pub writable: bool,
    /// Whether what it writes there is seen by others.
    pub shared: bool,
    /// Which byte of the file is first.
    pub offset: u64,
    /// Names the file: device, as the kernel prints it, and inode; 0 for none.
    pub file: (String, u64),
    /// Its path; empty for memory without a file.
    pub path: String,
}

/// The address space of a process; empty if it is not ours to look at.
#[must_use]
pub fn mappings(pid: u32) -> Vec<Mapped> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    text.lines().filter_map(parse_mapping).collect()
}

fn parse_mapping(line: &str) -> Option<Mapped> {
    let mut rest = line;
    let mut next = || {
        let (field, others) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        rest = others;
        field
    };
    let (range, rights, offset, device, inode) = (next(), next(), next(), next(), next());
    let (start, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Mapped {
        start: hex(start)?,
        end: hex(end)?,
        writable: rights.as_bytes().get(1) == Some(&b'w'),
        shared: rights.as_bytes().get(3) == Some(&b's'),
        offset: hex(offset)?,
        file: (device.to_owned(), inode.parse().ok()?),
        path: rest.trim().to_owned(),
    })
}

/// The memory of a process, to be read.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Opens it.
    ///
    /// # Errors
    /// `EACCES` or `EPERM` if the process is not ours to trace, `ENOENT` if it is gone.
    pub fn open(pid: u32) -> Result<Self, Errno> {
        let file = File::open(format!("/proc/{pid}/mem"));
        file.map(Self).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// How many bytes of those at an address could be read.
    #[must_use]
    pub fn read(&self, address: u64, into: &mut [u8]) -> usize {
        self.0.read_at(into, address).unwrap_or(0)
    }

    /// So many bytes at an address; `None` if they are not all there.
    #[must_use]
    pub fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        (self.read(address, &mut bytes) == length).then_some(bytes)
    }

    /// The double word at an address.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read(address, &mut bytes) == 8).then(|| u64::from_ne_bytes(bytes))
    }

    /// The double word that lies so many bytes into what is at an address.
    #[must_use]
    pub fn field(&self, address: u64, offset: u64) -> Option<u64> {
        self.word(address.checked_add(offset)?)
    }

    /// As [`Self::field`], of a word.
    #[must_use]
    pub fn half_field(&self, address: u64, offset: u64) -> Option<u32> {
        self.half(address.checked_add(offset)?)
    }

    /// The word at an address.
    #[must_use]
    pub fn half(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        (self.read(address, &mut bytes) == 4).then(|| u32::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_process_can_be_read() {
        let me = std::process::id();
        let word = 0x0123_4567_89ab_cdef_u64;
        let address = std::ptr::from_ref(&word).addr() as u64;
        assert_eq!(Memory::open(me).unwrap().word(address), Some(word));
        assert!(mappings(me).iter().any(|it| it.writable && (it.start..it.end).contains(&address)));
        assert_eq!(Memory::open(me).unwrap().bytes(8, 8), None, "nothing is there");
    }

    #[test]
    fn mappings_have_files_with_spaces_in_their_names() {
        let line = "7f00-8f00 rw-s 00001000 00:01 77    /dev/shm/sem.mp a (deleted)";
        let mapped = parse_mapping(line).unwrap();
        assert_eq!((mapped.start, mapped.end, mapped.offset), (0x7f00, 0x8f00, 0x1000));
        assert!(mapped.writable && mapped.shared);
        assert_eq!(mapped.path, "/dev/shm/sem.mp a (deleted)");
        assert_eq!(mapped.file, ("00:01".to_owned(), 77));
        assert_eq!(parse_mapping("garbage"), None);
    }
}
