//! What a channel promises while nobody dies; see `faults.rs` and `random_kills.rs` for the rest.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod script;

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use forkless_ipc::{Buffer, Channel, Claim, Content, KINDS, Parcel, Received, Sent};
use forkless_shm::{Arena, Error};
use forkless_sys::process::ExitStatus;
use forkless_sys::time::Deadline;
use forkless_testing::{Board, Child, PATIENCE, Scene, handle, roles};
use proptest::prelude::*;
use script::{SCRIPT, census, check, receive, send, try_receive};

roles!(KINDS => echo, receive_one);

fn now() -> Deadline {
    Deadline::after(Duration::ZERO)
}

/// Sends back what it receives, until something empty comes.
fn echo(mut scene: Scene) {
    let [there, back] = [scene.handle(), scene.handle()].map(|handle| Channel::open(scene.arena, handle).unwrap());
    loop {
        let message = receive(&there);
        let bytes = message.bytes().unwrap();
        assert!(back.send(message.tag, &bytes, &[], Deadline::after(PATIENCE)).unwrap());
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn messages_of_all_sizes_go_to_another_process_and_back() {
    let arena = Arena::create(KINDS).unwrap();
    let [there, back] = [0, 0].map(|max_size| Channel::create(arena, max_size).unwrap());
    let before = census(arena).0;
    let child = Child::start(arena, "echo", &[&handle(there.lease()), &handle(back.lease())]);
    let chunk = 1 << 16;
    let sizes = [1, 7, 8, 9, 100, 16 << 10, (16 << 10) + 1, chunk - 1, chunk, chunk + 1, 1 << 20, 5 << 20, 0];
    for (tag, size) in sizes.into_iter().enumerate() {
        let bytes = vec![tag as u8 + 1; size];
        assert!(there.send(tag as u64, &bytes, &[], Deadline::NEVER).unwrap());
        let message = receive(&back);
        assert_eq!(message.tag, tag as u64);
        assert!(message.bytes().unwrap() == bytes);
    }
    assert_eq!(child.finish(), ExitStatus::Exited(0));
    assert_eq!(census(arena).0, before);
}

#[test]
fn a_full_channel_makes_senders_wait_and_an_empty_one_receivers() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 2).unwrap();
    assert_eq!((channel.max_size().unwrap(), channel.len().unwrap(), channel.is_empty().unwrap()), (2, 0, true));
    assert!(channel.send(1, b"a", &[], now()).unwrap());
    assert!(channel.send(2, b"b", &[], now()).unwrap());
    for timeout in [0, 1, 120].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(!channel.send(3, b"c", &[], Deadline::after(timeout)).unwrap());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + Duration::from_secs(30));
    }
    assert_eq!(channel.len().unwrap(), 2);
    thread::scope(|scope| {
        let sender = scope.spawn(|| channel.send(3, b"c", &[], Deadline::after(PATIENCE)).unwrap());
        assert_eq!(receive(&channel).tag, 1);
        assert!(sender.join().unwrap());
    });
    assert_eq!((receive(&channel).tag, receive(&channel).tag), (2, 3));
    for timeout in [0, 1, 120].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(channel.receive(Deadline::after(timeout)).unwrap().is_none());
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + Duration::from_secs(30));
    }
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&channel).tag);
        assert!(channel.send(4, b"d", &[], now()).unwrap());
        assert_eq!(receiver.join().unwrap(), 4);
    });
}

#[test]
fn a_message_is_sent_once_however_often_it_is_tried() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 1).unwrap();
    for bytes in [vec![1; 10], vec![2; 20_000]] {
        let parts = [bytes.as_slice()];
        let content = Content { parts: &parts, ..Content::default() };
        let (mut first, mut second) = (channel.pack(1, &content).unwrap(), channel.pack(2, &content).unwrap());
        assert_eq!(first.send_within(Duration::ZERO).unwrap(), Sent::Sent);
        assert_eq!(second.send_within(Duration::ZERO).unwrap(), Sent::Full);
        assert_eq!(second.send_within(Duration::from_millis(1)).unwrap(), Sent::Full);
        assert_eq!(first.send_within(Duration::ZERO).unwrap(), Sent::Sent, "done long ago");
        assert_eq!(receive(&channel).tag, 1);
        assert_eq!(second.send_within(Duration::ZERO).unwrap(), Sent::Sent);
        assert_eq!(receive(&channel).bytes().unwrap(), bytes);
        assert!(try_receive(&channel).is_none());
    }
}

#[test]
fn what_is_packed_and_never_sent_leaves_nothing() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let buffer = Buffer::create(arena, b"", b"x").unwrap();
    let before = census(arena);
    let large = Content { parts: &[&[0; 100_000]], handles: &[buffer.lease()], ..Content::default() };
    drop(channel.pack(1, &large).unwrap());
    drop(channel.pack(1, &Content { parts: &[&[0; 10]], ..Content::default() }).unwrap());
    assert_eq!(census(arena), before);
}

/// Receives one message, with a claim, and lives on.
fn receive_one(mut scene: Scene) {
    let board = scene.board();
    let handle = scene.handle();
    let channel = Channel::open(scene.arena, handle).unwrap();
    let Received::Message(message) = channel.receive_within(Duration::ZERO, Claim::Tag, None).unwrap() else {
        panic!("there is a message");
    };
    board.set(0, 1 + message.tag);
    if board.wait(1, |ending| ending != 0) == 1 {
        scene.arena.unclaim().unwrap();
    }
}

#[test]
fn a_claim_holds_until_it_is_given_up() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 2);
    let channel = Channel::create(arena, 0).unwrap();
    for (ending, claimed) in [(1, None), (2, Some(77))] {
        (0..2).for_each(|word| board.set(word, 0));
        channel.send(77, b"", &[], now()).unwrap();
        let mut child = Child::start(arena, "receive_one", &[&board, &handle(channel.lease())]);
        board.wait(0, |taken| taken == 78);
        board.set(1, ending);
        child.clean();
        assert_eq!(arena.claimed(child.owner()), claimed);
    }
}

#[test]
fn something_else_may_end_a_receivers_sleep() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let word = arena.child_events(arena.me().unwrap()).unwrap();
    let seen = word.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let start = Instant::now();
            while word.load(Ordering::SeqCst) == seen {
                let received = channel.receive_within(PATIENCE, Claim::Nothing, Some((word, seen))).unwrap();
                assert!(!matches!(received, Received::Message(_)));
            }
            start.elapsed()
        });
        word.fetch_add(1, Ordering::SeqCst);
        forkless_sys::futex::wake(word, forkless_sys::futex::ALL);
        assert!(receiver.join().unwrap() < PATIENCE / 2);
    });
}

#[test]
fn the_counts_wrap() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let channel = Channel::create(arena, 20).unwrap();
    // As after four billion messages: see the layout of the block.
    let near_the_end = u32::MAX - 7;
    for count in [52, 116, 176, 240] {
        arena.map().u32(channel.lease().block().payload() + count).unwrap().store(near_the_end, Ordering::SeqCst);
    }
    for _ in 0..3 {
        for (number, shape) in SCRIPT.into_iter().enumerate() {
            send(&channel, number as u64, shape);
            assert_eq!(channel.len().unwrap(), number as u32 + 1);
        }
        for (number, shape) in SCRIPT.into_iter().enumerate() {
            let message = receive(&channel);
            assert_eq!(message.tag, number as u64);
            check(arena, &message, shape);
        }
        assert!(try_receive(&channel).is_none());
    }
    drop(channel);
    assert_eq!(census(arena), before);
}

#[test]
fn handles_are_good_for_channels_only() {
    let arena = Arena::create(KINDS).unwrap();
    let channel = Channel::create(arena, 0).unwrap();
    let handle = channel.lease().handle().unwrap();
    channel.send(1, b"x", &[], now()).unwrap();
    assert_eq!(receive(&Channel::open(arena, handle).unwrap()).tag, 1);
    assert!(matches!(Parcel::open(arena, handle), Err(Error::Stale(_))));
    drop(channel);
    assert!(matches!(Channel::open(arena, handle), Err(Error::Stale(_))));
}

#[test]
fn a_message_keeps_what_it_carries_alive() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let channel = Channel::create(arena, 0).unwrap();
    let buffer = Buffer::create(arena, b"what", b"bytes").unwrap();
    let handle = buffer.lease().handle().unwrap();
    channel.send(1, b"", &[buffer.lease(), buffer.lease()], now()).unwrap();
    drop(buffer);
    assert_eq!(Buffer::open(arena, handle).unwrap().description(), b"what");
    let message = receive(&channel);
    drop(channel);
    assert!(Buffer::open(arena, handle).is_ok(), "the message outlives its channel");
    drop(message);
    assert!(matches!(Buffer::open(arena, handle), Err(Error::Stale(_))));
    assert_eq!(census(arena), before);
}

#[test]
fn messages_left_in_a_channel_go_with_it() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    let mut channel = Channel::create(arena, 0).unwrap();
    // A channel in a message in a channel, deeper than any stack.
    for _ in 0..1000 {
        let outer = Channel::create(arena, 0).unwrap();
        send(&outer, 1, (20, 1));
        outer.send(1, b"", &[channel.lease()], now()).unwrap();
        channel = outer;
    }
    drop(channel);
    assert_eq!(census(arena), before);
}

#[derive(Clone, Debug)]
enum Step {
    Send((usize, usize)),
    Receive,
}

fn steps() -> impl Strategy<Value = (u32, Vec<Step>)> {
    let length = prop_oneof![4 => 0usize..300, 2 => 15_000usize..18_000, 1 => 0usize..150_000];
    let step = prop_oneof![
        4 => (length, prop::sample::select(vec![0, 0, 0, 0, 1, 3])).prop_map(Step::Send),
        3 => Just(Step::Receive),
    ];
    (prop::sample::select(vec![0, 1, 2, 5]), prop::collection::vec(step, 0..60))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_queue((max_size, steps) in steps()) {
        static ARENA: OnceLock<&Arena> = OnceLock::new();
        let arena = *ARENA.get_or_init(|| Arena::create(KINDS).unwrap());
        let before = census(arena);
        let channel = Channel::create(arena, max_size).unwrap();
        let mut model = VecDeque::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Send(shape) if max_size == 0 || model.len() < max_size as usize => {
                    send(&channel, number, shape);
                    model.push_back((number, shape));
                }
                Step::Send((length, _)) => {
                    prop_assert!(!channel.send(number, &vec![0; length], &[], now()).unwrap());
                }
                Step::Receive => {
                    let message = try_receive(&channel);
                    let expected = model.pop_front();
                    prop_assert_eq!(message.as_ref().map(|message| message.tag), expected.map(|(number, _)| number));
                    if let (Some(message), Some((_, shape))) = (message, expected) {
                        check(arena, &message, shape);
                    }
                }
            }
            prop_assert_eq!(channel.len().unwrap() as usize, model.len());
            prop_assert_eq!(channel.is_empty().unwrap(), model.is_empty());
        }
        drop(channel);
        prop_assert_eq!(census(arena), before);
    }
}
