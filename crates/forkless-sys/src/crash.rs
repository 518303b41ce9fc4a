//! Places where a fault test may stop a process for good.
//!
//! Every step of a protocol that another process can observe is a named point. A test [arms](arm) one in a child, the
//! child reaches it and takes a real SIGKILL there. Compiled into debug builds only: in a release build a point is
//! nothing, and [`arm`] says so. The idea is that of `fail-rs`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

static ARMED: OnceLock<(String, AtomicI64)> = OnceLock::new();

/// Has this process killed at the `passes`-th pass (from 1) through the point `name`. `false`: a release build, or
/// armed already.
pub fn arm(name: &str, passes: u32) -> bool {
    cfg!(debug_assertions) && ARMED.set((name.to_owned(), AtomicI64::new(i64::from(passes)))).is_ok()
}

/// A point. The name says what has just happened: `channel.send.written`.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions)
        && let Some((armed, left)) = ARMED.get()
        && armed == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // SIGKILL to oneself is taken before the call returns.
        crate::process::kill_child(crate::process::id());
    }
}
