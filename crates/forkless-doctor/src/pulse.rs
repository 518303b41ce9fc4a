//! Whether a tree of processes makes progress.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::facts::{Facts, Kind, Thread, Wait};

/// A number that is the same as before if no process of the tree has done anything in between: each thread is at the same
/// place, in the same wait.
#[must_use]
pub fn pulse(facts: &Facts) -> u64 {
    let mut hasher = DefaultHasher::new();
    for process in &facts.processes {
        (process.pid, process.state == 'Z').hash(&mut hasher);
        for thread in &process.threads {
            (thread.tid, thread.noted).hash(&mut hasher);
            for frame in &thread.stack {
                (&frame.function, &frame.file, frame.line).hash(&mut hasher);
            }
            if !wakes_by_itself(thread) {
                thread.activity.hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

/// Whether it wakes from time to time although nothing has happened: from a wait of forkless, or one with a limit.
fn wakes_by_itself(thread: &Thread) -> bool {
    let is_poll = |wait: Wait| wait.timed && wait.kind != Kind::Sleep;
    thread.noted != 0 || thread.wait.is_some_and(is_poll)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Frame, Process};

    fn tree(thread: Thread) -> Facts {
        let process = Process { pid: 1, threads: vec![thread], ..Process::default() };
        Facts { root: 1, processes: vec![process], ..Facts::default() }
    }

    #[test]
    fn a_thread_that_sleeps_again_has_done_something_unless_it_wakes_by_itself() {
        let at = |wait, noted, activity, line| {
            let stack = vec![Frame { line, ..Frame::default() }];
            pulse(&tree(Thread { tid: 1, wait: Some(wait), noted, activity, stack, ..Thread::default() }))
        };
        let (forever, limited) = (Wait::new(Kind::Lock), Wait { timed: true, ..Wait::new(Kind::Lock) });
        assert_eq!(at(forever, 0, 1, 1), at(forever, 0, 1, 1));
        assert_ne!(at(forever, 0, 1, 1), at(forever, 0, 2, 1));
        assert_eq!(at(limited, 0, 1, 1), at(limited, 0, 2, 1));
        assert_ne!(at(limited, 0, 1, 1), at(limited, 0, 2, 2));
        assert_eq!(at(forever, 5, 1, 1), at(forever, 5, 2, 1));
        assert_ne!(at(forever, 5, 1, 1), at(forever, 6, 1, 1));
    }
}
