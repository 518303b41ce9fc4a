//! What a child that is a program of its own takes over from its parent: the arena, a place in it, and objects by name.
//!
//! The parent reserves a slot, packs the objects into a parcel that keeps them alive, and starts the program with two
//! descriptors open: the arena's memory file, and the read end of a pipe whose write end is the parent's alone, so that
//! the kernel kills the child when the parent is gone, however it went. Where all this is says one variable:
//!
//! ```text
//! FORKLESS_PARENT=PID ARENA LIFELINE SLOT PARCEL
//! ```
//!
//! The child takes it up when it first asks. The number of the parent tells it from a program that merely found the
//! variable in its environment, past the descriptors.

use std::sync::{Mutex, PoisonError};

use forkless_ipc::{Content, KINDS, Parcel};
use forkless_shm::{Arena, Handle, Lease, Owner};
use forkless_sys::{AsFd, AsRawFd, BorrowedFd, orphan, process};

use crate::Error;
use crate::invitation::{Fields, inherited};

/// The variable that tells a child what it inherits.
pub const PARENT_VARIABLE: &str = "FORKLESS_PARENT";

const DAMAGED: Error = Error::Protocol("FORKLESS_PARENT was not set by forkless");

/// An object that a parent passes to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What the parent calls it; without NUL.
    pub name: String,
    /// The kind of its block.
    pub kind: u8,
    /// Which object it is.
    pub handle: Handle,
}

/// What this process has inherited. It keeps the objects alive for the rest of the process.
#[derive(Debug)]
pub struct Inheritance {
    arena: &'static Arena,
    objects: Vec<Passed>,
    _parcel: Parcel,
}

/// What this process has inherited, once it is known.
static KNOWN: Mutex<Option<&'static Inheritance>> = Mutex::new(None);

impl Inheritance {
    /// What the parent of this process passed to it; `None` if that started it by other means.
    ///
    /// To be asked first on the main thread: it is that thread whose end the kernel tells the others.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the variable was set by somebody else, [`Error::System`] if the descriptors are not there,
    /// [`forkless_shm::Error::Stale`] if the parent has given up.
    pub fn get() -> Result<Option<&'static Self>, Error> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none()
            && let Ok(value) = std::env::var(PARENT_VARIABLE)
            && let Some(inheritance) = Self::take_up(&value)?
        {
            *known = Some(Box::leak(Box::new(inheritance)));
        }
        Ok(*known)
    }

    fn take_up(value: &str) -> Result<Option<Self>, Error> {
        let mut fields = Fields::in_value(value);
        if fields.number::<u32>()? != process::parent_id() {
            return Ok(None);
        }
        let (arena, lifeline) = (fields.number()?, fields.number()?);
        let owner = fields.owner()?;
        let parcel: Handle = fields.text()?.parse()?;
        let (arena, lifeline) = (inherited(arena)?, inherited(lifeline)?);
        let own = orphan::die_with(lifeline.as_fd()).map_err(Error::system("watch the parent"))?;
        // Open for the rest of this process's life.
        std::mem::forget(own);
        let arena = Arena::join(arena, KINDS)?;
        arena.arrive(owner)?;
        let parcel = Parcel::open(arena, parcel)?;
        let objects = unpack(arena, &parcel.bytes()?)?;
        Ok(Some(Self { arena, objects, _parcel: parcel }))
    }

    /// The parent's arena.
    #[must_use]
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// The object that the parent passed under this name; the last, if it passed several.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Passed> {
        self.objects.iter().rfind(|object| object.name == name)
    }
}

/// Packs objects, each with its name and kind, for a child. The parcel keeps the objects alive until the child has it.
///
/// # Errors
/// [`forkless_shm::Error::Stale`] for an object of another tree; see [`Arena::allocate`].
pub fn pass(arena: &'static Arena, objects: &[(&str, u8, &Lease)]) -> Result<Parcel, Error> {
    let mut lines = Vec::new();
    for (name, kind, lease) in objects {
        lines.push(format!("{kind} {:x} {:x} {name}", lease.handle()?.offset, lease.handle()?.generation));
    }
    let leases: Vec<&Lease> = objects.iter().map(|(_, _, lease)| *lease).collect();
    Ok(Parcel::pack(arena, &Content { parts: &[lines.join("\0").as_bytes()], handles: &leases, ..Content::default() })?)
}

fn unpack(arena: &Arena, bytes: &[u8]) -> Result<Vec<Passed>, Error> {
    let text = str::from_utf8(bytes).map_err(|_| DAMAGED)?;
    let object = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let mut number = |radix| u64::from_str_radix(words.next()?, radix).ok();
        let (kind, offset, generation) = (number(10)?, number(16)?, number(16)?);
        let handle = Handle { arena: arena.id(), offset, generation: u32::try_from(generation).ok()? };
        Some(Passed { name: words.next()?.to_owned(), kind: u8::try_from(kind).ok()?, handle })
    };
    text.split_terminator('\0').map(|line| object(line).ok_or(DAMAGED)).collect()
}

/// The variable for a child that has this slot; the arena's file and the lifeline's read end stay open in it.
///
/// # Errors
/// See [`Arena::handle`].
pub fn parent_variable(
    arena: &'static Arena,
    lifeline: BorrowedFd<'_>,
    owner: Owner,
    parcel: &Parcel,
) -> Result<(&'static str, String), Error> {
    let [file, lifeline] = [arena.file(), lifeline].map(|fd| fd.as_raw_fd());
    let parcel = parcel.lease().handle()?;
    Ok((PARENT_VARIABLE, format!("{} {file} {lifeline} {} {parcel}", process::id(), owner.word())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_found() {
        let arena = Arena::create(KINDS).unwrap();
        let objects: Vec<_> = (0..3).map(|kind| arena.allocate(8, kind).unwrap()).collect();
        let named = [("a name", 0, &objects[0]), ("", 1, &objects[1]), ("a name", 2, &objects[2])];
        let parcel = pass(arena, &named).unwrap();
        let unpacked = unpack(arena, &parcel.bytes().unwrap()).unwrap();
        let inheritance = Inheritance { arena, objects: unpacked, _parcel: parcel };
        let handle = objects[2].handle().unwrap();
        assert_eq!(inheritance.find("a name"), Some(&Passed { name: "a name".into(), kind: 2, handle }));
        assert_eq!(inheritance.find("").unwrap().kind, 1);
        assert_eq!(inheritance.find("name"), None);
        drop(objects);
        assert!(arena.open(handle, 2).is_ok(), "the parcel keeps it");
        assert!(unpack(arena, &pass(arena, &[]).unwrap().bytes().unwrap()).unwrap().is_empty());
    }

    #[test]
    fn what_somebody_else_wrote_is_an_error() {
        let arena = Arena::create(KINDS).unwrap();
        for text in ["x", "1 2 3", "1 2 x name", "256 0 0 name", "1 0 100000000 name", "1 0 0 a\x001"] {
            assert!(unpack(arena, text.as_bytes()).is_err(), "{text}");
        }
        assert!(unpack(arena, &[0xff]).is_err());
        let parent = process::parent_id();
        for rest in ["", "3 4", "3 4 65537", "x 4 65537 1-2-3", "3 4 0 1-2-3", "3 4 65537 x"] {
            assert!(Inheritance::take_up(&format!("{parent} {rest}")).is_err(), "{rest}");
        }
        assert!(Inheritance::take_up("").is_err());
        assert!(Inheritance::take_up(&format!("{} 3 4 65537 1-2-3", process::id())).unwrap().is_none());
    }
}
