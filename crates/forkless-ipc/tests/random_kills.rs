//! Producers and consumers killed at random moments: every message whose send returned arrives once and whole, or is
//! named by the consumer that died with it; nobody hangs and nothing leaks.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod script;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use forkless_ipc::{Channel, Claim, KINDS, Received};
use forkless_shm::Arena;
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, Random, Scene, handle, roles, rounds, seed};
use script::{census, check, send, try_receive};

roles!(KINDS => produce, consume);

/// The most messages that one producer sends.
const MESSAGES: u64 = 3000;

/// How long a consumer sleeps before it looks whether the work is over.
const A_MOMENT: Duration = Duration::from_millis(5);

/// The board's words: a flag that ends the work, then each producer's confirmed sends; consumers have boards of their
/// own: a count, then the tags of the messages that they are done with.
const STOP: usize = 0;
const CONFIRMED: usize = 1;

fn tag(producer: u64, number: u64) -> u64 {
    producer << 32 | number
}

/// What a message looks like follows from its tag: most are small, some fill chunks, travel as parcels, carry handles.
fn shape(tag: u64) -> (usize, usize) {
    let mut random = Random::new(!tag);
    let (up_to, handles) = match random.below(20) {
        0..13 => (200, 0),
        13..16 => (16 << 10, 0),
        16..18 => (100_000, 0),
        _ => (1000, 1 + random.below(2) as usize),
    };
    (random.below(up_to + 1) as usize, handles)
}

fn produce(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let channel = Channel::open(scene.arena, handle).unwrap();
    let producer = scene.argument();
    for number in 0..MESSAGES {
        if board.get(STOP) != 0 {
            return;
        }
        let tag = tag(producer, number);
        send(&channel, tag, shape(tag));
        board.set(CONFIRMED + producer as usize, number + 1);
    }
}

fn consume(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let channel = Channel::open(scene.arena, handle).unwrap();
    let done = scene.board();
    loop {
        match channel.receive_within(A_MOMENT, Claim::Tag, None).unwrap() {
            Received::Message(message) => {
                check(scene.arena, &message, shape(message.tag));
                let count = done.get(0);
                done.set(1 + count as usize, message.tag);
                done.set(0, count + 1);
                scene.arena.unclaim().unwrap();
            }
            Received::Empty if board.get(STOP) != 0 => return,
            Received::Empty | Received::Interrupted | Received::Closed => {}
        }
    }
}

/// How often each message arrived, told by its tag.
#[derive(Default)]
struct Arrivals(BTreeMap<u64, u32>);

impl Arrivals {
    fn add(&mut self, tag: u64) {
        *self.0.entry(tag).or_default() += 1;
    }

    /// What a consumer was done with, and what it had claimed when it died. Each producer's messages are in order.
    fn add_consumer(&mut self, done: &Board, claimed: Option<u64>) {
        let tags: Vec<_> = (0..done.get(0)).map(|index| done.get(1 + index as usize)).collect();
        let mut latest = BTreeMap::new();
        for &tag in &tags {
            let before = latest.insert(tag >> 32, tag);
            assert!(before.is_none_or(|before| before < tag), "a consumer got a producer's messages out of order");
            self.add(tag);
        }
        // Between being done with a message and giving up its claim, both are true.
        if let Some(claimed) = claimed.filter(|claimed| tags.last() != Some(claimed)) {
            self.add(claimed);
        }
    }

    /// Of a producer, the messages that arrived must be those whose sends returned, and at most the next one if it died.
    fn check(&self, producer: u64, confirmed: u64, died: bool) {
        let of_producer: Vec<_> = self.0.range(tag(producer, 0)..tag(producer + 1, 0)).collect();
        assert!(
            of_producer.iter().all(|arrival| *arrival.1 == 1),
            "duplicates of producer {producer}: {of_producer:?}"
        );
        let numbers = of_producer.iter().map(|arrival| arrival.0 & 0xffff_ffff);
        let count = of_producer.len() as u64;
        assert!(numbers.eq(0..count), "of producer {producer}, {confirmed} sends returned, but not all arrived");
        assert!(
            count == confirmed || died && count == confirmed + 1,
            "of producer {producer} (died: {died}), {confirmed} sends returned and {count} messages arrived"
        );
    }
}

struct Round<'a> {
    arena: &'static Arena,
    board: &'a Board,
    channel: Channel,
    producers: Vec<Child>,
    consumers: Vec<(Child, Board)>,
}

impl Round<'_> {
    fn add_producer(&mut self) {
        let index = self.producers.len();
        let arguments: [&dyn std::fmt::Display; 3] = [self.board, &handle(self.channel.lease()), &index];
        self.producers.push(Child::start(self.arena, "produce", &arguments));
    }

    fn add_consumer(&mut self) {
        let done = Board::create(self.arena, 1 + 8 * MESSAGES as usize);
        let arguments: [&dyn std::fmt::Display; 3] = [self.board, &handle(self.channel.lease()), &done];
        self.consumers.push((Child::start(self.arena, "consume", &arguments), done));
    }

    /// Kills some, replaces some, cleans up after some at once.
    fn strike(&mut self, random: &mut Random) {
        for index in 0..self.producers.len() + self.consumers.len() {
            if random.below(3) != 0 {
                continue;
            }
            let of_consumer = index.checked_sub(self.producers.len());
            let victim = match of_consumer {
                None => &mut self.producers[index],
                Some(index) => &mut self.consumers[index].0,
            };
            victim.kill();
            if random.below(2) == 0 {
                victim.clean();
            }
        }
    }

    /// Lets the survivors finish, then counts.
    fn end(mut self) -> u64 {
        self.board.set(STOP, 1);
        let mut arrivals = Arrivals::default();
        // Consumers end when the channel is empty, producers when they have sent their last, for which there must be
        // room.
        let mut rest = Vec::new();
        while !self.producers.iter().all(Child::has_ended) {
            rest.extend(try_receive(&self.channel));
        }
        for (child, done) in &mut self.consumers {
            let status = child.clean();
            assert!(matches!(status, ExitStatus::Exited(0) | ExitStatus::Signaled(9)), "a consumer found: {status:?}");
            arrivals.add_consumer(done, self.arena.claimed(child.owner()));
        }
        rest.extend(std::iter::from_fn(|| try_receive(&self.channel)));
        for message in rest {
            check(self.arena, &message, shape(message.tag));
            arrivals.add(message.tag);
        }
        for (producer, child) in self.producers.iter_mut().enumerate() {
            let status = child.clean();
            assert!(matches!(status, ExitStatus::Exited(0) | ExitStatus::Signaled(9)), "a producer found: {status:?}");
            let died = status != ExitStatus::Exited(0);
            arrivals.check(producer as u64, self.board.get(CONFIRMED + producer), died);
        }
        assert!(arrivals.0.last_key_value().is_none_or(|(tag, _)| tag >> 32 < self.producers.len() as u64));
        arrivals.0.len() as u64
    }
}

#[test]
fn every_confirmed_message_arrives_once_and_whole() {
    let seed = seed();
    println!("FORKLESS_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, CONFIRMED + 16);
    let before = census(arena);
    let mut total = 0;
    for _ in 0..rounds(200) {
        (0..CONFIRMED + 16).for_each(|word| board.set(word, 0));
        let max_size = [0, 1, 10, 1000][random.below(4) as usize];
        let channel = Channel::create(arena, max_size).unwrap();
        let mut round = Round { arena, board: &board, channel, producers: Vec::new(), consumers: Vec::new() };
        for _ in 0..2 {
            round.add_producer();
            round.add_consumer();
        }
        for strike in 0..=random.below(3) {
            // Not for synchronisation: a random moment.
            thread::sleep(Duration::from_micros(random.below(12_000)));
            round.strike(&mut random);
            if strike < 2 && random.below(2) == 0 {
                round.add_producer();
                round.add_consumer();
            }
        }
        total += round.end();
        assert_eq!(census(arena), before);
    }
    println!("{total} messages");
}
