//! The tree that this process is in: its arena, and what its parent passed.

use std::sync::{Mutex, PoisonError};

use forkless_ipc::KINDS;
use forkless_process::Inheritance;
use forkless_shm::{Arena, Handle};

use crate::Error;
use crate::shared::Shared;

/// This process's arena, in which it creates its objects: its parent's if it was started by a
/// [`Command`](crate::process::Command), that of the tree it has [joined](join_tree), else a new one.
///
/// Nobody has to call this: whatever creates, opens or inherits an object does. A child should do one of these things
/// first on its main thread: it is that thread whose end the kernel tells the others.
///
/// # Errors
/// [`Error::Arena`] without memory, address space or descriptors; [`Error::Process`] if `FORKLESS_PARENT` was set by
/// somebody else, or the parent has given up.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), forkless::Error> {
/// for process in forkless::arena()?.processes() {
///     println!("{} is {}", process.pid, process.name);
/// }
/// # Ok(())
/// # }
/// ```
pub fn arena() -> Result<&'static Arena, Error> {
    /// Held while the first arena is made.
    static FIRST: Mutex<()> = Mutex::new(());
    if let Some(home) = Arena::home() {
        return Ok(home);
    }
    let _first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    match (Arena::home(), Inheritance::get()?) {
        (Some(home), _) => Ok(home),
        (None, Some(inheritance)) => Ok(inheritance.arena()),
        (None, None) => Ok(Arena::create(KINDS)?),
    }
}

/// The object that this process's parent [passed](crate::process::Command::pass) under this name, any number of times.
///
/// The objects that were passed live as long as this process does.
///
/// # Errors
/// [`Error::NotPassed`] if there is none of that name, or this process was not started by a
/// [`Command`](crate::process::Command). [`Error::Arena`] or [`Error::WrongType`] if it is of another type.
///
/// # Examples
/// ```standalone_crate
/// use forkless::process::Command;
/// use forkless::sync::{Lock, Mutex};
///
/// fn main() -> Result<(), forkless::Error> {
///     if std::env::args().any(|argument| argument == "--child") {
///         let counter: Mutex<u64> = forkless::inherited("counter")?;
///         assert!(forkless::inherited::<Mutex<i8>>("counter").is_err());
///         assert!(forkless::inherited::<Lock>("lock").is_err());
///         *counter.lock()? += 1;
///         return Ok(());
///     }
///     let counter = Mutex::create(0_u64)?;
///     let mut child = Command::current_exe().arg("--child").pass("counter", &counter).spawn()?;
///     assert!(child.wait()?.success());
///     assert_eq!(*counter.lock()?, 1);
///     Ok(())
/// }
/// ```
pub fn inherited<T: Shared>(name: &str) -> Result<T, Error> {
    let passed = Inheritance::get()?.and_then(|inheritance| inheritance.find(name));
    match passed {
        Some(passed) => open(passed.handle),
        None => Err(Error::NotPassed { name: name.to_owned() }),
    }
}

/// Joins the process tree of the Python program that started this one by other means than forkless, such as `subprocess`.
///
/// Its name is in the variable `FORKLESS_TREE`, which a Python program sets when it starts its first process, and which
/// its children inherit. The tree's arena becomes this process's [`arena`], unless it has one already. From then on
/// the handles of the tree's objects, [as text](Handle#impl-FromStr-for-Handle), open them. Only processes of the same
/// user are let in. If this process dies, the tree is told, and gets back what it held.
///
/// # Errors
/// [`Error::NoTree`] if the variable is not set; [`Error::Process`] if the tree has ended or is another user's.
///
/// # Examples
/// ```no_run
/// use forkless::Handle;
/// use forkless::sync::Lock;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// forkless::join_tree()?;
/// // In Python: subprocess.Popen([program, "%x-%x-%x" % lock.handle])
/// let handle: Handle = std::env::args().nth(1).ok_or("which lock?")?.parse()?;
/// let lock = Lock::open(handle)?;
/// # Ok(())
/// # }
/// ```
pub fn join_tree() -> Result<&'static Arena, Error> {
    // A child that joins its parent's tree has its place there already.
    Inheritance::get()?;
    let joining = forkless_process::Joining::by_environment().ok_or(Error::NoTree)?;
    Ok(joining.wait()?)
}

/// Opens an object in whichever of this process's arenas it is.
pub(crate) fn open<T: Shared>(handle: Handle) -> Result<T, Error> {
    let home = arena()?;
    // Another one only says that the handle is not its own.
    T::open_in(Arena::find(handle.arena).unwrap_or(home), handle)
}
