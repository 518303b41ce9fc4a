//! Last words: what a process writes when a fatal signal ends it.
//!
//! A signal handler may do little more than `write(2)` to a descriptor. So each slot has a region at the end of the
//! arena's memory file, and its process a descriptor of its own, opened anew and positioned there; whoever learns of the death reads
//! the text. Nobody has to hold a descriptor for it, and pages exist only once there was something to say.
//!
//! A text longer than its region runs on into the next slot's: it garbles another text at worst, since nothing but text is
//! there.

use forkless_sys::OwnedFd;

use crate::Error;
use crate::arena::Arena;
use crate::layout::SLOTS;
use crate::slot::Owner;

/// Bytes for each process in a large arena: the stacks of a hundred threads with deep calls.
const REGION: usize = 1 << 20;
/// The part of a small arena that is set aside for all of them: one of this many.
const PART: usize = 16;
/// What is read of a text at most: the interpreter says first which signal came and what the thread that got it was
/// doing.
const MOST: usize = 64 << 10;

/// Bytes for each process in an arena of `size` bytes.
fn region(size: usize) -> usize {
    REGION.min(size / PART / SLOTS)
}

/// Where the heap of an arena of `size` bytes ends.
pub(crate) fn begin(size: usize) -> usize {
    size - region(size) * SLOTS
}

impl Arena {
    fn last_words_at(&self, owner: Owner) -> usize {
        begin(self.size()) + owner.index() * region(self.size())
    }

    /// A descriptor to which this process's last words can be written, by a signal handler.
    ///
    /// # Errors
    /// [`Error::System`] without descriptors, or without `/proc`.
    pub fn open_last_words(&'static self) -> Result<OwnedFd, Error> {
        let me = self.me()?;
        // Those of a process that had the slot before, should its cleaner have died.
        self.forget_last_words(me);
        self.memory().open_at(self.last_words_at(me)).map_err(Error::system("open a place for last words"))
    }

    /// What a process that has ended has written, if it did.
    #[must_use]
    pub fn last_words(&self, owner: Owner) -> Option<String> {
        let mut bytes = vec![0; MOST.min(region(self.size()))];
        let length = self.memory().read_at(self.last_words_at(owner), &mut bytes).ok()?;
        let end = bytes[..length].iter().position(|&byte| byte == 0).unwrap_or(length);
        (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// Gives the pages of its last words back to the system, if there are any.
    pub(crate) fn forget_last_words(&self, owner: Owner) {
        let at = self.last_words_at(owner);
        // Not through the mapping: to look there would allocate a page.
        let mut first = [0];
        if self.memory().read_at(at, &mut first).is_ok_and(|length| length == 1) && first[0] != 0 {
            self.memory().punch(at, region(self.size()));
            // Of a region smaller than a page, the rest of one is overwritten.
            let zeros = vec![0; region(self.size()).min(forkless_sys::memory::PAGE)];
            let _ = self.map().write(at, &zeros);
        }
    }
}
