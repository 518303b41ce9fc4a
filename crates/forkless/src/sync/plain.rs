//! Which types a mutex may hold.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Data that may lie in shared memory: every pattern of its bits is a value of it, it has no padding, and nothing in it
/// is a pointer, a cell or has a destructor.
///
/// Shared memory is input from outside. Any process of the tree can write there, so nothing but the type itself can
/// vouch for what is read: no `bool`, no `enum`, no reference. That is what the traits of [`zerocopy`] say, and their
/// derive macros prove, so this crate asks for them in place of a trait of its own, which everybody would have to
/// implement with `unsafe`. They hold for integers, floats, and arrays of them. `Copy` excludes destructors.
///
/// # Examples
/// A struct derives the traits. It is `repr(C)`, so that all programs agree on where its fields are:
/// ```
/// use forkless::sync::Mutex;
/// use forkless::zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[zerocopy(crate = "forkless::zerocopy")] // not needed if you depend on zerocopy yourself
/// #[repr(C)]
/// struct Account {
///     cents: i64,
///     bookings: u64,
/// }
///
/// # fn main() -> Result<(), forkless::Error> {
/// let account = Mutex::create(Account { cents: 0, bookings: 0 })?;
/// let mut account = account.lock()?;
/// account.cents += 995;
/// account.bookings += 1;
/// # Ok(())
/// # }
/// ```
///
/// What is no plain data does not compile:
/// ```compile_fail
/// # fn main() -> Result<(), forkless::Error> {
/// forkless::sync::Mutex::create(true)?;
/// # Ok(())
/// # }
/// ```
/// ```compile_fail
/// # fn main() -> Result<(), forkless::Error> {
/// forkless::sync::Mutex::create(String::new())?;
/// # Ok(())
/// # }
/// ```
pub trait Plain: Copy + FromBytes + IntoBytes + Immutable + Send + Sync + 'static {}

impl<T: Copy + FromBytes + IntoBytes + Immutable + Send + Sync + 'static> Plain for T {}

/// The type's name without the paths in it, which differ between programs that mean the same type: `[Account; 4]`.
pub(crate) fn name<T>() -> String {
    let mut name = String::new();
    // Paths are words joined by `::`; what is between words stays.
    for piece in std::any::type_name::<T>().split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        name.push_str(piece.rsplit("::").next().unwrap_or(piece));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Pair<T>(T, T);

    #[test]
    fn names_have_no_paths() {
        assert_eq!(name::<u64>(), "u64");
        assert_eq!(name::<[i32; 4]>(), "[i32; 4]");
        assert_eq!(name::<[Pair<Pair<u8>>; 2]>(), "[Pair<Pair<u8>>; 2]");
        assert_eq!(name::<std::num::Wrapping<u8>>(), "Wrapping<u8>");
        assert_eq!(name::<()>(), "()");
    }
}
