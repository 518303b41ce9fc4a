//! Three children work off jobs; one of them is killed, and everything is done all the same.
//!
//! `cargo run -p forkless --example messages`
#![allow(clippy::print_stdout)] // it is a program

use std::collections::BTreeSet;

use forkless::messages::{Receiver, Sender, bounded, channel};
use forkless::process::{Child, Command};
use forkless::{Error, inherited};
use serde::{Deserialize, Serialize};

const JOBS: u64 = 300;

#[derive(Debug, Serialize, Deserialize)]
enum Job {
    Factor { number: u64 },
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    worker: String,
    number: u64,
    factors: Vec<u64>,
}

fn factors(mut number: u64) -> Vec<u64> {
    let mut factors = Vec::new();
    for divisor in 2.. {
        while number.is_multiple_of(divisor) {
            factors.push(divisor);
            number /= divisor;
        }
        if number < 2 {
            break;
        }
    }
    factors
}

fn work(worker: &str) -> Result<(), Error> {
    let jobs: Receiver<Job> = inherited("jobs")?;
    let answers: Sender<Answer> = inherited("answers")?;
    while let Job::Factor { number } = jobs.recv()? {
        answers.send(&Answer { worker: worker.to_owned(), number, factors: factors(number) })?;
    }
    Ok(())
}

fn parent() -> Result<(), Error> {
    let (jobs, for_workers) = bounded::<Job>(10)?;
    let (from_workers, answers) = channel::<Answer>()?;
    let start = |name: &str| {
        let mut command = Command::current_exe();
        command.arg(name).name(name).pass("jobs", &for_workers).pass("answers", &from_workers).spawn()
    };
    let mut workers: Vec<Child> = ["one", "two", "three"].into_iter().map(start).collect::<Result<_, _>>()?;
    let mut open: BTreeSet<u64> = (1000..1000 + JOBS).collect();
    for number in open.clone() {
        jobs.send(&Job::Factor { number })?;
        if number == 1000 + JOBS / 2 {
            // What it has answered is here, and what it has not taken is still there. At most one job is lost.
            workers[0].kill()?;
        }
    }
    for _ in 1..workers.len() {
        jobs.send(&Job::Stop)?;
    }
    for worker in &mut workers {
        let status = worker.wait()?;
        println!("{} ended: {status}", worker.name());
    }
    for answer in answers.try_iter() {
        let Answer { worker, number, factors } = answer?;
        assert_eq!(factors.iter().product::<u64>(), number, "{worker} is wrong");
        assert!(open.remove(&number), "{number} was answered twice");
    }
    assert!(open.len() <= 1, "lost: {open:?}");
    println!(
        "{} of {JOBS} jobs are done, {} went with the worker that was killed",
        JOBS - open.len() as u64,
        open.len()
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    match std::env::args().nth(1) {
        None => parent(),
        Some(worker) => work(&worker),
    }
}
