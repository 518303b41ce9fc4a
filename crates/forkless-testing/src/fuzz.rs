//! Bytes that nobody sends, for whatever reads bytes of other processes.
//!
//! A target is a function of bytes. It gets good ones, which a test gives, and these with pieces changed, left out,
//! repeated and put together, the same on every machine. Whatever they are, it is to return: with an error or a value, soon,
//! and without a panic.

use std::fmt::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::{PATIENCE, Random, rounds};

/// The most bytes that a target gets, unless a good input is longer.
const MOST: usize = 4096;

/// Gives a target each of these good inputs, and then as many bad ones as `FORKLESS_TEST_ROUNDS` says or are enough for
/// every day. `FORKLESS_TEST_SEED` asks for others than those of every day.
///
/// `FORKLESS_TEST_INPUT`, in hexadecimal as a failure prints it, is the one input instead.
///
/// # Panics
/// If the target panics, or takes longer than [`PATIENCE`]. The message has the input.
pub fn fuzz(everyday: u64, good: &[&[u8]], target: fn(&[u8])) {
    if let Some(input) = std::env::var("FORKLESS_TEST_INPUT").ok().and_then(|text| from_hex(&text)) {
        return target(&input);
    }
    let good: Vec<Vec<u8>> = good.iter().map(|bytes| bytes.to_vec()).collect();
    let mut random = Random::new(crate::from_environment("FORKLESS_TEST_SEED").unwrap_or(1));
    let rounds = rounds(everyday);
    let now = Arc::new(Mutex::new(Vec::new()));
    let (told, news) = channel();
    let worker = {
        let now = Arc::clone(&now);
        thread::spawn(move || {
            for round in 0..rounds {
                let input = good.get(round as usize).cloned().unwrap_or_else(|| bad(&mut random, &good));
                now.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&input);
                let _ = told.send(());
                target(&input);
            }
        })
    };
    let input = || to_hex(&now.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        match news.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the target hangs: FORKLESS_TEST_INPUT={}", input()),
        }
    }
    assert!(worker.join().is_ok(), "the target panicked: FORKLESS_TEST_INPUT={}", input());
}

/// A good input, changed in a few places.
fn bad(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match random.below(16) {
        0 => {
            let length = random.below(64) as usize;
            random.bytes(length)
        }
        _ => pick(random, good).clone(),
    };
    for _ in 0..=random.below(5) {
        change(random, &mut bytes, good);
    }
    bytes.truncate(MOST.max(good.iter().map(Vec::len).max().unwrap_or(0)));
    bytes
}

fn pick<'a>(random: &mut Random, good: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &good[random.below(good.len() as u64) as usize]
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, good: &[Vec<u8>]) {
    let at = random.below(bytes.len() as u64 + 1) as usize;
    let end = (at + 1 + random.below(16) as usize).min(bytes.len());
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.bits() as u8,
        2 => overwrite(random, bytes, at),
        3 => {
            let length = 1 + random.below(8) as usize;
            let inserted = random.bytes(length);
            bytes.splice(at..at, inserted);
        }
        4 => drop(bytes.drain(at..end)),
        // Once more, or very often: what nests, nests deep.
        5 => {
            let times = 1 << random.below(11);
            let piece = bytes[at..end].repeat(times);
            bytes.splice(at..at, piece);
        }
        6 => bytes.truncate(at),
        _ => {
            let other = pick(random, good);
            let from = random.below(other.len() as u64 + 1) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Writes a number at which something may end or wrap.
fn overwrite(random: &mut Random, bytes: &mut [u8], at: usize) {
    let edge = match random.below(4) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        _ => random.below(256),
    };
    let number = edge.wrapping_add(random.below(3)).wrapping_sub(1).to_le_bytes();
    let size = (1 << random.below(4)).min(bytes.len() - at);
    bytes[at..at + size].copy_from_slice(&number[..size]);
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}
