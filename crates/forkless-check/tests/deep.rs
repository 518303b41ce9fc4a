//! Programs that nest as deeply as the parser lets them, and deeper: no stack overflows.
#![allow(clippy::unwrap_used)]

use forkless_check::{Options, Report, check_text};

const IMPORT: &str = "import multiprocessing as mp\n";

fn check(program: &str) -> Report {
    check_text((IMPORT.to_owned() + program).as_bytes(), Some("deep.py".as_ref()), &Options::default()).unwrap()
}

/// Ways to nest, so many times.
fn nested(times: usize) -> Vec<String> {
    let around = |left: &str, right: &str| format!("x = {}mp{}\n", left.repeat(times), right.repeat(times));
    let blocks = (0..times / 20).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "if mp:\n");
    vec![
        around("not ", ""),
        around("[", "]"),
        around("f(", ")"),
        around("", "()"),
        around("", ".x"),
        around("", "[0]"),
        around("", " + mp"),
        around("{1: ", "}"),
        around("lambda: ", ""),
        around("", " if mp else mp"),
        around("[y for y in ", "]"),
        blocks + &" ".repeat(times / 20) + "mp.Pool()\n",
    ]
}

#[test]
fn what_is_deep_is_checked() {
    for program in nested(1500) {
        assert!(check(&program).problems.is_empty(), "{}", &program[..60]);
    }
}

#[test]
fn what_is_deeper_is_refused_or_checked() {
    for program in nested(60_000) {
        for problem in check(&program).problems {
            assert!(problem.message.contains("too deeply"), "{}: {problem}", &program[..60]);
        }
    }
    // The deepest that is let through.
    for program in nested(4_900) {
        check(&program);
    }
}
