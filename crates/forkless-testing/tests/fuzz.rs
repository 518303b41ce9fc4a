//! Bad inputs are found, told, and the same each time.
#![allow(clippy::unwrap_used)]

use std::panic::catch_unwind;
use std::sync::Mutex;

use forkless_testing::fuzz;

#[test]
fn what_a_target_does_not_like_is_found() {
    let target = |bytes: &[u8]| assert!(bytes.len() < 8 || bytes[4] != 0x80, "found");
    let found = catch_unwind(|| fuzz(10_000, &[b"goodness"], target)).unwrap_err();
    let text = found.downcast_ref::<String>().unwrap();
    let input = text.strip_prefix("the target panicked: FORKLESS_TEST_INPUT=").unwrap();
    assert!(input.len() >= 16 && &input[8..10] == "80", "{text}");
}

#[test]
fn inputs_are_the_same_each_time() {
    static SEEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let some = || {
        fuzz(1000, &[b"one", b"another"], |bytes| SEEN.lock().unwrap().push(bytes.to_vec()));
        std::mem::take(&mut *SEEN.lock().unwrap())
    };
    let first = some();
    assert_eq!(first, some());
    assert_eq!(first[..2], [b"one".to_vec(), b"another".to_vec()]);
    assert!(first.iter().any(|input| input.len() > 1000) && first.iter().any(Vec::is_empty));
}
