//! Answers the questions of a Python program, and asks it some: see `word_count.py`.
//!
//! `cargo build -p forkless --example word_count`, and
//! `python crates/forkless/examples/word_count.py target/debug/examples/word_count`
#![allow(clippy::print_stdout)] // it is a program

use std::collections::BTreeMap;

use forkless::messages::{Receiver, RecvError, Sender};
use forkless::process::Command;
use serde::{Deserialize, Serialize};

/// A dict in Python.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    title: String,
    lines: Vec<String>,
}

/// A dict in Python, too.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Count {
    title: String,
    words: BTreeMap<String, u32>,
    mean: f64,
}

fn count(text: Text) -> Count {
    let mut words = BTreeMap::new();
    for word in text.lines.iter().flat_map(|line| line.split_whitespace()) {
        *words.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    let mean = f64::from(words.values().sum::<u32>()) / text.lines.len().max(1) as f64;
    Count { title: text.title, words, mean }
}

/// Started by Python: the two queues are named by their handles. `None` is the end.
fn answer(texts: &str, counts: &str) -> Result<(), Box<dyn std::error::Error>> {
    forkless::join_tree()?;
    let (texts, counts): (Receiver<Option<Text>>, Sender<Count>) =
        (Receiver::open(texts.parse()?)?, Sender::open(counts.parse()?)?);
    loop {
        match texts.recv() {
            Ok(Some(text)) => counts.send(&count(text))?,
            Ok(None) => return Ok(()),
            Err(RecvError::Decode(error)) => println!("Rust goes on after {error}"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts Python, which finds the same two queues by name, and has it count.
fn ask(python: &str, script: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (texts, for_python) = forkless::messages::bounded::<Option<Text>>(2)?;
    let (from_python, counts) = forkless::messages::channel::<Count>()?;
    let mut command = Command::new(python);
    let mut child = command.arg(script).pass("texts", &for_python).pass("counts", &from_python).spawn()?;
    for line in ["to be or not to be", "that is the question"] {
        let text = || Text { title: line[..5].to_owned(), lines: vec![line.to_owned()] };
        texts.send(&Some(text()))?;
        assert_eq!(counts.recv()?, count(text()));
        println!("Python has counted the words of {line:?}");
    }
    texts.send(&None)?;
    println!("Python ended: {}", child.wait()?);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [how, texts, counts] if how == "answer" => answer(texts, counts),
        [how, python, script] if how == "ask" => ask(python, script),
        _ => Err("it is started by word_count.py".into()),
    }
}
