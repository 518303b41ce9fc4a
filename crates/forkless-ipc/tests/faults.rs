//! Death at every step of a channel's life: what was sent arrives once and whole, nothing leaks.
#![cfg(debug_assertions)] // the points where a process can be made to die are in debug builds only
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

mod script;

use std::fmt::Display;
use std::time::Duration;

use forkless_ipc::{Channel, Claim, KINDS, Received};
use forkless_shm::Arena;
use forkless_sys::process::ExitStatus;
use forkless_sys::time::{Deadline, SLICE};
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle, roles};
use script::{SCRIPT, census, check, litter, receive, send, try_receive};

roles!(KINDS => create, send_script, receive_script, let_go);

/// The steps of a transaction in the arena.
const STEPS: [&str; 3] = ["arena.written", "arena.logged", "arena.applied"];

const KILLED: ExitStatus = ExitStatus::Signaled(9);

/// The tag of a message that the parent sends after a child's death.
const EPILOGUE: u64 = 1000;

fn open(scene: &mut Scene) -> Channel {
    let handle = scene.handle();
    Channel::open(scene.arena, handle).unwrap()
}

/// Makes and loses channels.
fn create(scene: Scene) {
    for _ in 0..2 {
        let channel = Channel::create(scene.arena, 0).unwrap();
        send(&channel, 1, (10, 1));
        check(scene.arena, &receive(&channel), (10, 1));
    }
}

#[test]
fn a_death_while_channels_come_and_go_leaks_nothing() {
    let arena = Arena::create(KINDS).unwrap();
    let before = census(arena);
    for point in STEPS {
        let deaths = at_every_pass(|pass| {
            litter(arena);
            let status = Child::start_doomed(arena, "create", point, pass, &[]).finish();
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            status
        });
        assert!(deaths > 20, "the role passes {point} only {deaths} times");
    }
}

/// Sends the script; the board says how many sends have returned.
fn send_script(mut scene: Scene) {
    let board = scene.board();
    let channel = open(&mut scene);
    for (number, shape) in SCRIPT.into_iter().enumerate() {
        send(&channel, number as u64, shape);
        board.set(0, number as u64 + 1);
    }
}

/// When the parent receives what a doomed sender sends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Receiving {
    Meanwhile,
    BeforeCleaning,
    AfterCleaning,
}

#[test]
fn messages_of_a_dying_sender_arrive_once_and_whole() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let before = census(arena);
    let points = ["channel.send.written", "channel.send.committed"];
    for (point, receiving) in points.iter().chain(&STEPS).flat_map(|point| {
        [Receiving::Meanwhile, Receiving::BeforeCleaning, Receiving::AfterCleaning].map(|receiving| (point, receiving))
    }) {
        let deaths = at_every_pass(|pass| {
            litter(arena);
            let channel = Channel::create(arena, 0).unwrap();
            board.set(0, 0);
            let mut child = Child::start_doomed(arena, "send_script", point, pass, &[&board, &handle(channel.lease())]);
            let receive_all = || {
                let mut count = 0;
                loop {
                    let message = receive(&channel);
                    if message.tag == EPILOGUE {
                        return count;
                    }
                    assert_eq!(message.tag, count, "messages arrive in order, without gaps");
                    check(arena, &message, SCRIPT[count as usize]);
                    count += 1;
                }
            };
            let epilogue = |child: &mut Child| {
                child.wait();
                // Also takes the senders' lock from the dead.
                assert!(channel.send(EPILOGUE, b"", &[], Deadline::after(PATIENCE)).unwrap());
            };
            let received = match receiving {
                Receiving::Meanwhile => std::thread::scope(|scope| {
                    // Asleep on the channel when the sender dies.
                    let receiver = scope.spawn(receive_all);
                    epilogue(&mut child);
                    receiver.join().unwrap()
                }),
                Receiving::BeforeCleaning => {
                    epilogue(&mut child);
                    receive_all()
                }
                Receiving::AfterCleaning => {
                    child.clean();
                    epilogue(&mut child);
                    receive_all()
                }
            };
            let confirmed = board.get(0);
            let status = child.finish();
            assert!(
                (confirmed..=confirmed + 1).contains(&received),
                "{point}, pass {pass}, {receiving:?}: {confirmed} sends returned, {received} messages arrived"
            );
            drop(channel);
            assert_eq!(census(arena), before, "{point}, pass {pass}, {receiving:?}");
            status
        });
        assert!(deaths >= SCRIPT.len() as u32, "the role passes {point} only {deaths} times");
    }
}

/// Receives the script; the board says how many messages it is done with.
fn receive_script(mut scene: Scene) {
    let board = scene.board();
    let channel = open(&mut scene);
    for (number, shape) in SCRIPT.into_iter().enumerate() {
        let Received::Message(message) = channel.receive_within(Duration::ZERO, Claim::Tag, None).unwrap() else {
            panic!("message {number} is there");
        };
        assert_eq!(message.tag, number as u64);
        check(scene.arena, &message, shape);
        drop(message);
        board.set(0, number as u64 + 1);
        scene.arena.unclaim().unwrap();
    }
}

#[test]
fn a_message_taken_by_a_dying_receiver_is_named_and_the_others_arrive() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let before = census(arena);
    let points = ["channel.receive.read", "channel.receive.committed"];
    for (point, cleaning_first) in
        points.iter().chain(&STEPS).flat_map(|point| [false, true].map(|cleaning_first| (point, cleaning_first)))
    {
        let deaths = at_every_pass(|pass| {
            litter(arena);
            let channel = Channel::create(arena, 0).unwrap();
            for (number, shape) in SCRIPT.into_iter().enumerate() {
                send(&channel, number as u64, shape);
            }
            board.set(0, 0);
            let mut child =
                Child::start_doomed(arena, "receive_script", point, pass, &[&board, &handle(channel.lease())]);
            let status = child.wait();
            if cleaning_first {
                child.clean();
            }
            let done = board.get(0);
            let left: Vec<u64> = std::iter::from_fn(|| {
                let message = try_receive(&channel)?;
                check(arena, &message, SCRIPT[message.tag as usize]);
                Some(message.tag)
            })
            .collect();
            child.clean();
            let claimed = arena.claimed(child.owner());
            let first = SCRIPT.len() as u64 - left.len() as u64;
            assert!(left.into_iter().eq(first..SCRIPT.len() as u64), "the last messages are there, in order");
            let case =
                format!("{point}, pass {pass}, cleaning first: {cleaning_first}: {done} done, claims {claimed:?}");
            if first == done {
                assert!(claimed.is_none_or(|tag| tag + 1 == done), "{case}");
            } else {
                assert_eq!((first, claimed), (done + 1, Some(done)), "{case}");
            }
            send(&channel, EPILOGUE, (50_000, 1));
            check(arena, &receive(&channel), (50_000, 1));
            drop(child);
            drop(channel);
            assert_eq!(census(arena), before, "{case}");
            status
        });
        assert!(deaths >= 5, "the role passes {point} only {deaths} times");
    }
}

/// Is the last to hold a channel full of messages, and lets it go.
fn let_go(mut scene: Scene) {
    let board = scene.board();
    let channel = open(&mut scene);
    board.set(0, 1);
    board.wait(0, |value| value == 2);
    drop(channel);
}

#[test]
fn a_channel_that_dies_half_taken_apart_takes_its_messages_along() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let before = census(arena);
    for point in ["channel.receive.read", "channel.receive.committed"].iter().chain(&STEPS) {
        let deaths = at_every_pass(|pass| {
            litter(arena);
            let channel = Channel::create(arena, 0).unwrap();
            for (number, shape) in SCRIPT.into_iter().enumerate() {
                send(&channel, number as u64, shape);
            }
            // A channel inside a message inside a channel.
            let inner = Channel::create(arena, 0).unwrap();
            send(&inner, 1, (50_000, 1));
            assert!(channel.send(EPILOGUE, b"", &[inner.lease()], Deadline::NEVER).unwrap());
            drop(inner);
            board.set(0, 0);
            let mut child = Child::start_doomed(arena, "let_go", point, pass, &[&board, &handle(channel.lease())]);
            while board.get(0) == 0 && !child.has_ended() {
                std::thread::yield_now();
            }
            drop(channel);
            board.set(0, 2);
            let status = child.clean();
            drop(child);
            assert_eq!(census(arena), before, "{point}, pass {pass}");
            status
        });
        assert!(deaths >= SCRIPT.len() as u32, "the role passes {point} only {deaths} times");
    }
}

#[test]
fn who_comes_after_two_deaths_settles_for_both() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let before = census(arena);
    for (role, point) in [
        ("receive_script", "channel.receive.read"),
        ("receive_script", "channel.receive.committed"),
        ("send_script", "channel.send.written"),
        ("send_script", "channel.send.committed"),
    ] {
        at_every_pass(|pass| {
            litter(arena);
            let channel = Channel::create(arena, 0).unwrap();
            if role == "receive_script" {
                for (number, shape) in SCRIPT.into_iter().enumerate() {
                    send(&channel, number as u64, shape);
                }
            }
            let named = handle(channel.lease());
            let arguments: [&dyn Display; 2] = [&board, &named];
            let mut first = Child::start_doomed(arena, role, point, pass, &arguments);
            let status = first.wait();
            // Takes the lock from the first, and dies before it has settled anything.
            let mut second =
                (status == KILLED).then(|| Child::start_doomed(arena, role, "channel.inherited", 1, &arguments));
            assert!(second.as_mut().is_none_or(|second| second.wait() == KILLED));
            send(&channel, EPILOGUE, (50_000, 1));
            let received: Vec<_> = std::iter::from_fn(|| try_receive(&channel)).collect();
            first.clean();
            second.as_mut().map(Child::clean);
            litter(arena);
            for message in &received {
                let shape = if message.tag == EPILOGUE { (50_000, 1) } else { SCRIPT[message.tag as usize] };
                check(arena, message, shape);
            }
            drop((first, second, received, channel));
            assert_eq!(census(arena), before, "{role}, {point}, pass {pass}");
            status
        });
    }
}

#[test]
fn a_sender_that_halts_keeps_nobody_longer_than_asked() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let channel = Channel::create(arena, 0).unwrap();
    let arguments = [&board as &dyn Display, &handle(channel.lease())];
    let halted = Child::start_halting(arena, "send_script", "channel.send.written", 3, &arguments);
    halted.wait_until_halted();
    // It holds the senders' lock, in the middle of its third message.
    // Whoever waits for longer than a slice has it go on.
    for timeout in [Duration::ZERO, SLICE / 2] {
        assert!(!channel.send(EPILOGUE, b"", &[], Deadline::after(timeout)).unwrap());
    }
    assert_eq!((receive(&channel).tag, receive(&channel).tag), (0, 1));
    assert!(try_receive(&channel).is_none());
    halted.resume();
    for number in 2..SCRIPT.len() as u64 {
        assert_eq!(receive(&channel).tag, number);
    }
    assert_eq!(halted.finish(), ExitStatus::Exited(0));
}

#[test]
fn a_receiver_that_halts_keeps_nobody_longer_than_asked() {
    let arena = Arena::create(KINDS).unwrap();
    let board = Board::create(arena, 1);
    let channel = Channel::create(arena, 0).unwrap();
    for (number, shape) in SCRIPT.into_iter().enumerate() {
        send(&channel, number as u64, shape);
    }
    let arguments = [&board as &dyn Display, &handle(channel.lease())];
    let halted = Child::start_halting(arena, "receive_script", "channel.receive.read", 3, &arguments);
    halted.wait_until_halted();
    // Whoever waits for longer than a slice has it go on.
    for timeout in [Duration::ZERO, SLICE / 2] {
        assert!(channel.receive(Deadline::after(timeout)).unwrap().is_none());
    }
    send(&channel, EPILOGUE, (0, 0));
    halted.resume();
    assert_eq!(halted.finish(), ExitStatus::Exited(0));
    assert_eq!(receive(&channel).tag, EPILOGUE);
}
