//! Places where a fault test may stop a process for good.
//!
//! Every step of a protocol that another process can observe is a named point. A test [arms](arm) one in a child, the
//! child reaches it and takes a real SIGKILL there. Compiled into debug builds only: in a release build a point is
//! nothing, and [`arm`] says so. The idea is that of `fail-rs`.
//!
//! A process may also be [halted](arm_halt) at a point, so that a test can see to it that others overtake it there.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

static ARMED: OnceLock<(String, AtomicI64, Signal)> = OnceLock::new();

/// Has this process killed at the `passes`-th pass (from 1) through the point `name`. `false`: a release build, or
/// armed already.
pub fn arm(name: &str, passes: u32) -> bool {
    arm_signal(name, passes, Signal::KILL)
}

/// As [`arm`], but the process is stopped, as by SIGSTOP, and goes on after SIGCONT.
pub fn arm_halt(name: &str, passes: u32) -> bool {
    arm_signal(name, passes, Signal::STOP)
}

fn arm_signal(name: &str, passes: u32, signal: Signal) -> bool {
    cfg!(debug_assertions) && ARMED.set((name.to_owned(), AtomicI64::new(i64::from(passes)), signal)).is_ok()
}

/// A point. The name says what has just happened: `channel.send.written`.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions)
        && let Some((armed, left, signal)) = ARMED.get()
        && armed == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        if *signal == Signal::KILL {
            // So that a test knows: not everything that dies is somebody's child.
            let line = format!("process {} dies at {name}\n", crate::process::id());
            // In one piece, as others die at the same time.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        // A signal to oneself that cannot be blocked is taken before the call returns.
        let _ = kill_process(getpid(), *signal);
    }
}
