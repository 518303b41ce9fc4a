//! A mutex around plain data in shared memory.
//!
//! The soundness question of such a mutex is its `&mut T`. One into shared memory would be exclusive by protocol only: a
//! process that breaks the protocol, by a bug or by malice, writes where the compiler has been told that nobody does,
//! and so can any code of this process that has a mapping of the arena, which is safe to have. It would also be torn by
//! a death in the middle of a change. So the guard has a *copy* of the value, in memory that is this process's alone:
//! a plain reference to that is sound whatever others do. The copy is written back when the guard is dropped, in a
//! way that nobody sees half (see [`forkless_sync::ValueMutex`]). Nobody may look at the value without the mutex, so
//! nobody can tell the difference, except by dying: then the value is what it was before. Copying is made of
//! atomic operations on words, and what is read can be anything, which is why `T` is [`Plain`].
//!
//! The price is a copy on each side of the critical section. To lock and unlock takes about 50 ns with eight bytes and 400 ns
//! with a kilobyte, where a [`Lock`](super::Lock) takes 20 (release build, on a virtual machine with two cores). It is why
//! large data belongs elsewhere.

use std::fmt::{Debug, Display, Formatter};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::thread::panicking;
use std::time::Duration;

use forkless_shm::{Acquired, Arena, Handle, Lease, Owner, Waited};
use forkless_sync::ValueMutex;
use forkless_sys::time::Deadline;

use super::guard::{LockError, LockResult, sealed, told};
use super::plain::{self, Plain};
use crate::shared::sealed::Object;
use crate::wait::acquire;
use crate::{Error, arena};

/// A mutex around plain data in shared memory, which knows when its owner dies.
///
/// Used as [`std::sync::Mutex`] is: [`lock`](Self::lock) waits, and returns a [guard](MutexGuard) that dereferences to the
/// data. Between processes and between threads, only one guard exists at a time. It is not fair, and a thread that locks
/// it twice waits for itself.
///
/// # When a process dies
///
/// The data is never half-written. The guard works on a copy, and what it has changed becomes the value in one step, when
/// it is dropped. If its process dies before that, at whatever instruction, or the thread panics, the value is
/// what it was before.
///
/// A death poisons the mutex all the same, because the data may stand for something outside that is not in order: a
/// file, other shared memory, a second mutex. The next one to lock it holds it and [is told](LockError::OwnerDied), within
/// 100 ms of the death if it waits. Until somebody [recovers](super::OwnerDied::recover) it, so is everybody after that;
/// giving up with `?` hides nothing from the others. This is how the poison of [`std::sync::Mutex`] works. (A robust
/// mutex of POSIX tells one of them, and is lost for good if that one gives it back without repair: the same, but with no
/// way back.) A panic does not poison: the process is there to handle it.
///
/// # What it may hold
///
/// [`Plain`] data, and not too much: it is copied when the mutex is locked, and again if it was changed, and lives on
/// the stack in between. From some kilobytes on, put the data into a [`Memory`](crate::ipc::Memory) and a
/// [`Lock`](super::Lock) beside it.
///
/// # Examples
/// ```
/// use forkless::sync::Mutex;
///
/// # fn main() -> Result<(), forkless::Error> {
/// let counter = Mutex::create(0_u64)?;
/// *counter.lock()? += 1;
///
/// // Any process of the tree opens it by its handle.
/// let again = Mutex::<u64>::open(counter.handle())?;
/// assert_eq!(*again.lock()?, 1);
/// # Ok(())
/// # }
/// ```
pub struct Mutex<T: Plain> {
    inner: ValueMutex,
    handle: Handle,
    value: PhantomData<T>,
}

impl<T: Plain> Mutex<T> {
    /// A new mutex, free, around this value, in this process's [`arena`](crate::arena()).
    ///
    /// # Errors
    /// [`Error::Arena`] if there is no arena, or no room in it.
    pub fn create(value: T) -> Result<Self, Error> {
        Self::wrap(ValueMutex::create(arena()?, &plain::name::<T>(), value.as_bytes())?)
    }

    /// Opens the mutex that a handle names, which lives from now on at least as long as what this returns.
    ///
    /// The value's type is compared by size and by name, without the path: two programs that mean the same type may have
    /// it in different modules.
    ///
    /// # Errors
    /// [`Error::WrongType`] if it holds a value of another type; [`Error::Arena`] if it is gone, belongs to another
    /// process tree, or is something else.
    ///
    /// # Examples
    /// ```
    /// use forkless::Error;
    /// use forkless::sync::{Event, Mutex};
    ///
    /// # fn main() -> Result<(), forkless::Error> {
    /// let mutex = Mutex::create(0_u64)?;
    /// assert!(matches!(Mutex::<f64>::open(mutex.handle()), Err(Error::WrongType { .. })));
    /// assert!(matches!(Event::open(mutex.handle()), Err(Error::Arena(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(handle: Handle) -> Result<Self, Error> {
        crate::tree::open(handle)
    }

    fn wrap(inner: ValueMutex) -> Result<Self, Error> {
        Ok(Self { handle: inner.lease().handle()?, inner, value: PhantomData })
    }

    /// Its name, which travels as text or in a message, and opens it in any process of the tree for as long as somebody
    /// has it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// What keeps it alive: [sent along](crate::ipc::Channel::send) with a message, the message does.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        self.inner.lease()
    }

    /// Waits for the mutex and takes it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if its owner died with it, now or earlier, and nobody has recovered it since: it brings
    /// the guard. [`LockError::Failed`] if this process cannot get a place in the tree.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_deadline(Deadline::NEVER).map(|guard| guard.expect("a wait without end ends with the mutex"))
    }

    /// Takes the mutex if that needs no waiting: if it is free, or its owner is dead.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), forkless::Error> {
    /// let mutex = forkless::sync::Mutex::create(0_u32)?;
    /// let guard = mutex.try_lock()?.expect("it is free");
    /// assert!(mutex.try_lock()?.is_none());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.inner.try_acquire()?.map(|acquired| self.guard(acquired)).transpose()
    }

    /// As [`lock`](Self::lock), but gives up after this long: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.lock_deadline(Deadline::after(timeout))
    }

    /// As [`lock`](Self::lock), but gives up at this moment: `None`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_deadline(
        &self,
        deadline: impl Into<Deadline>,
    ) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        let waited = (self.inner.lease(), Waited::Lock);
        let acquired = acquire(deadline.into(), self.inner.acquire_free(), waited, |wait, bound| {
            self.inner.acquire_within(wait, bound)
        })?;
        acquired.map(|acquired| self.guard(acquired)).transpose()
    }

    fn guard(&self, acquired: Acquired) -> LockResult<MutexGuard<'_, T>> {
        let mut guard = MutexGuard { mutex: self, value: T::new_zeroed(), changed: false, panicked: panicking() };
        // On failure the guard gives the mutex back.
        self.inner.read(guard.value.as_mut_bytes())?;
        told(self.arena(), acquired, guard)
    }

    /// Whether an owner died with it and nobody has recovered it since. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn is_poisoned(&self) -> Result<bool, Error> {
        let left = self.holder()?.is_some_and(|holder| self.arena().is_dead(holder));
        Ok(left || self.inner.poisoned_by()?.is_some())
    }

    /// Says that what an owner left who died is in order. For who holds the mutex by
    /// [`into_inner`](super::OwnerDied::into_inner) and has repaired it.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn clear_poison(&self) -> Result<(), Error> {
        Ok(self.inner.recover()?)
    }

    /// Which process holds it, dead or alive. By the time this returns that may have changed.
    ///
    /// # Errors
    /// [`Error::Arena`] if its memory is damaged.
    pub fn holder(&self) -> Result<Option<Owner>, Error> {
        Ok(self.inner.holder()?)
    }

    fn arena(&self) -> &'static Arena {
        self.inner.lease().arena()
    }
}

impl<T: Plain> Object for Mutex<T> {
    const KIND: u8 = ValueMutex::KIND;

    fn lease(&self) -> &Lease {
        self.inner.lease()
    }

    fn open_in(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
        let inner = ValueMutex::open(arena, handle)?;
        let wanted = plain::name::<T>();
        if inner.size() == size_of::<T>() && inner.is_type(&wanted) {
            return Self::wrap(inner);
        }
        let sized = |name: &str, size: usize| format!("{name} ({size} bytes)");
        let (wanted, found) = (sized(&wanted, size_of::<T>()), sized(&inner.value_type(), inner.size()));
        Err(Error::WrongType { wanted, found })
    }
}

impl<T: Plain> Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Mutex");
        fields.field("handle", &format_args!("{}", self.handle));
        if let (Ok(holder), Ok(poisoned)) = (self.holder(), self.is_poisoned()) {
            fields.field("holder", &holder).field("poisoned", &poisoned);
        }
        fields.finish_non_exhaustive()
    }
}

/// A [`Mutex`] that is held until this is dropped; dereferences to the value.
///
/// Changes become visible to others, all at once, when it is dropped. They do not if it is dropped by a panic, or never.
#[must_use = "the mutex is given back at once when its guard is not kept"]
pub struct MutexGuard<'a, T: Plain> {
    mutex: &'a Mutex<T>,
    value: T,
    changed: bool,
    /// Whether the thread was panicking already when it took the mutex: a destructor may use it.
    panicked: bool,
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let inner = &self.mutex.inner;
        // Not in a fork of the process by user code: the mutex is its parent's.
        if inner.holder().ok().flatten().is_none_or(|holder| !inner.lease().arena().is_me(holder)) {
            return;
        }
        if self.changed && (self.panicked || !panicking()) {
            // Fails only if the mutex's memory is damaged; its next taker learns that too.
            let _ = inner.commit(self.value.as_bytes());
        }
        let _ = inner.release();
    }
}

impl<'a, T: Plain> sealed::Guard for MutexGuard<'a, T> {
    type Lock = &'a Mutex<T>;

    fn unlock(self) -> Self::Lock {
        self.mutex
    }

    fn relock(lock: Self::Lock) -> LockResult<Self> {
        lock.lock()
    }

    fn is_left(lock: Self::Lock) -> Result<bool, Error> {
        lock.is_poisoned()
    }

    fn clear_poison(&self) {
        let _ = self.mutex.clear_poison();
    }
}

impl<T: Plain + Debug> Debug for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(formatter)
    }
}

impl<T: Plain + Display> Display for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(formatter)
    }
}
