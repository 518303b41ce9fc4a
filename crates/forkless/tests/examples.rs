//! The examples do what they say. Those with Python are run by the Python tests.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn run(example: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples").join(example);
    assert!(program.exists(), "`cargo test -p forkless` builds the examples, too");
    let output = Command::new(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn two_processes() {
    let text = run("two_processes");
    assert!(text.ends_with("singer died while it held the lock\nthe child ended: exit code 0\n"), "{text}");
    assert_eq!(text.lines().count(), 14);
}

#[test]
fn counter() {
    for _ in 0..5 {
        let text = run("counter");
        assert!(text.starts_with("counter 0 ended: "), "{text}");
        for child in 1..4 {
            assert!(text.contains(&format!("counter {child} ended: exit code 0\n")), "{text}");
        }
        let sum: u64 = text.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((30_000..=40_000).contains(&sum), "{text}");
    }
}

#[test]
fn messages() {
    for _ in 0..5 {
        let text = run("messages");
        assert!(text.contains("two ended: exit code 0\nthree ended: exit code 0\n"), "{text}");
        let done = ["300 of 300 jobs are done, 0 went", "299 of 300 jobs are done, 1 went"];
        assert!(done.iter().any(|done| text.contains(done)), "{text}");
    }
}
