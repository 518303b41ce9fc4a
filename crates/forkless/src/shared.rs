//! What all objects in the arena have in common.

use forkless_ipc::{Buffer, Channel, Memory, Parcel};
use forkless_shm::{Arena, Handle, Lease};

use crate::Error;

/// An object in the arena: whatever can be [passed](crate::process::Command::pass) to a child and
/// [inherited](crate::inherited) by it. Everything in [`sync`](crate::sync), and the objects of [`ipc`](crate::ipc).
pub trait Shared: sealed::Object {}

impl<T: sealed::Object> Shared for T {}

pub(crate) mod sealed {
    use super::{Arena, Error, Handle, Lease};

    /// Seals [`Shared`](super::Shared): what an object can do is a promise of the arena, not of its user.
    pub trait Object: Sized {
        /// The kind of its block.
        const KIND: u8;
        /// What keeps it alive.
        fn lease(&self) -> &Lease;
        /// The object that a handle names.
        fn open_in(arena: &'static Arena, handle: Handle) -> Result<Self, Error>;
    }
}

/// For objects that are opened by an arena and a handle, and nothing else.
macro_rules! objects {
    ($($type:ty),+) => {
        $(impl sealed::Object for $type {
            const KIND: u8 = Self::KIND;

            fn lease(&self) -> &Lease {
                Self::lease(self)
            }

            fn open_in(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
                Ok(Self::open(arena, handle)?)
            }
        })+
    };
}

objects!(Buffer, Channel, Memory, Parcel);

/// How objects of `sync` are named and opened. They are structs of an `inner` object and its `handle`.
macro_rules! named {
    ($type:ident, $inner:ty, $($state:ident),+) => {
        impl $type {
            fn wrap(inner: $inner) -> Result<Self, Error> {
                Ok(Self { handle: inner.lease().handle()?, inner })
            }

            /// Opens the one that a handle names, which lives from now on at least as long as what this returns.
            ///
            /// # Errors
            /// [`Error::Arena`] if it is gone, belongs to another process tree, or is something else.
            pub fn open(handle: Handle) -> Result<Self, Error> {
                crate::tree::open(handle)
            }

            /// Its name, which travels as text or in a message, and opens it in any process of the tree for as long as
            /// somebody has it.
            #[must_use]
            pub fn handle(&self) -> Handle {
                self.handle
            }

            /// What keeps it alive: [sent along](crate::ipc::Channel::send) with a message, the message does.
            #[must_use]
            pub fn lease(&self) -> &Lease {
                self.inner.lease()
            }
        }

        impl crate::shared::sealed::Object for $type {
            const KIND: u8 = <$inner>::KIND;

            fn lease(&self) -> &Lease {
                self.inner.lease()
            }

            fn open_in(arena: &'static Arena, handle: Handle) -> Result<Self, Error> {
                Self::wrap(<$inner>::open(arena, handle)?)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut fields = formatter.debug_struct(stringify!($type));
                fields.field("handle", &format_args!("{}", self.handle));
                $(if let Ok(state) = self.$state() {
                    fields.field(stringify!($state), &state);
                })+
                fields.finish()
            }
        }
    };
}

pub(crate) use named;
