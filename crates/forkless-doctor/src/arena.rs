//! What processes of forkless wait for, as their slots say.

use crate::facts::Facts;

/// Completes the facts with what the arenas of these processes say.
pub(crate) fn complete(facts: &mut Facts) {
    let _ = facts;
}
