//! The channel: a message arrives whole, once and in order, or not at all, and nobody sleeps beside one.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use forkless_ipc::{Channel, Claim, Closing, Content, Joined, Received, Sent};
use forkless_models::{Process, World, at_every_step, clean, next_block, with_stack};
use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_sync::Deadline;
use forkless_sys::atomic::Ordering;
use forkless_sys::model;

/// Bytes of a chunk, and of one record here.
const CHUNK: usize = (1 << 16) - 64;
const RECORD: usize = 24;

type Child = (&'static Arena, &'static Channel);

/// A channel, as each child has it, with room for as many messages (0 for any number).
fn set_up<const CHILDREN: usize>(room: u32) -> (World, &'static Channel, [Child; CHILDREN]) {
    let mut world = World::new(CHILDREN);
    let chunk = next_block(world.arena, CHUNK).payload();
    let channel = Channel::create(world.arena, room).unwrap();
    send(&channel, 9);
    assert_eq!(receive(&channel), 9);
    // Words that nobody accesses before there is somebody to wait for.
    for field in [104, 108, 168, 172] {
        let word = world.arena.map().u32(channel.lease().block().payload() + field).unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }
    world.watch(channel.lease());
    world.watch_range(chunk + RECORD, 2 * RECORD);
    let (channel, children) = world.share(channel, Channel::lease, Channel::open);
    (world, channel, children)
}

fn send(channel: &Channel, tag: u64) {
    assert!(channel.send(tag, &tag.to_le_bytes(), &[], Deadline::NEVER).unwrap());
}

fn receive(channel: &Channel) -> u64 {
    let message = channel.receive(Deadline::NEVER).unwrap().unwrap();
    assert_eq!(message.bytes().unwrap(), message.tag.to_le_bytes());
    message.tag
}

#[test]
fn messages_arrive_whole_and_in_order() {
    let (world, channel, children) = set_up::<2>(0);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let sender = Process::start(first, move || (1..=2).for_each(|tag| send(mine, tag)));
        let receiver = Process::start(second, move || assert_eq!([(); 2].map(|()| receive(yours)), [1, 2]));
        sender.join().unwrap();
        receiver.join().unwrap();
        assert!(channel.is_empty().unwrap());
    });
}

#[test]
fn a_sender_waits_for_room() {
    let (world, channel, children) = set_up::<2>(1);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let sender = Process::start(first, move || (1..=2).for_each(|tag| send(mine, tag)));
        let receiver = Process::start(second, move || {
            for tag in 1..=2 {
                assert!(yours.len().unwrap() <= 1);
                assert_eq!(receive(yours), tag);
            }
        });
        sender.join().unwrap();
        receiver.join().unwrap();
        assert!(channel.is_empty().unwrap());
    });
}

#[test]
fn two_senders_and_their_messages_take_turns() {
    let (world, channel, children) = set_up::<2>(0);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        let senders = [Process::start(first, move || send(mine, 1)), Process::start(second, move || send(yours, 2))];
        let mut tags = [(); 2].map(|()| receive(channel));
        let _ = senders.map(Process::join);
        tags.sort_unstable();
        assert_eq!(tags, [1, 2]);
    });
}

#[test]
fn two_receivers_get_a_message_each() {
    let (world, channel, children) = set_up::<2>(0);
    world.check(move || {
        let receivers = children.map(|(child, channel)| Process::start(child, move || receive(channel)));
        send(channel, 1);
        send(channel, 2);
        let mut tags = receivers.map(|receiver| receiver.join().unwrap());
        tags.sort_unstable();
        assert_eq!(tags, [1, 2]);
    });
}

#[test]
fn a_sender_that_dies_has_sent_or_not() {
    at_every_step(|doom| {
        let (world, channel, children) = set_up::<2>(0);
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || send(mine, 1));
            let receiver = Process::start(second, move || match receive(yours) {
                1 => assert_eq!(receive(yours), 2),
                other => assert_eq!(other, 2),
            });
            doomed.join();
            send(channel, 2);
            receiver.join().unwrap();
        });
    });
}

#[test]
fn a_receiver_that_dies_has_claimed_what_others_do_not_get() {
    at_every_step(|doom| {
        let (world, channel, children) = set_up::<2>(0);
        let arena = world.arena;
        send(channel, 1);
        send(channel, 2);
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || claim(mine).unwrap());
            let other = Process::start(second, move || claim(yours).unwrap());
            let got = doomed.join().or_else(|| {
                clean(arena, [first]);
                arena.claimed(first.me().unwrap())
            });
            let mut tags: Vec<_> = [got, other.join()].into_iter().flatten().collect();
            tags.extend(std::iter::from_fn(|| claim(channel)));
            tags.sort_unstable();
            assert_eq!(tags, [1, 2]);
        });
    });
}

/// Takes a message if there is one, with a note in the slot that it does.
fn claim(channel: &Channel) -> Option<u64> {
    loop {
        if let Received::Message(message) = channel.receive_within(Duration::ZERO, Claim::Tag, None).unwrap() {
            return Some(message.tag);
        }
        if channel.is_empty().unwrap() {
            return None;
        }
    }
}

/// Deaths here are also between two changes to the arena, each of which is made whole.
#[test]
fn a_parcel_belongs_to_its_sender_the_channel_or_its_receiver() {
    at_every_step(|first| {
        at_every_step(|second| {
            let (mut world, channel, children) = set_up::<2>(0);
            world.watch_transactions();
            let arena = world.arena;
            let (_, contents) = world.share::<_, 2>(arena.allocate(8, OBJECT).unwrap(), |lease| lease, open);
            let blocks = arena.statistics().unwrap().blocks;
            world.check(move || {
                let [(sender, mine), (receiver, yours)] = children;
                let parcel = move || assert!(mine.send(1, b"parcel", &[contents[0].1], Deadline::NEVER).unwrap());
                Process::start_doomed(sender, first, parcel).join();
                Process::start_doomed(receiver, second, move || claim(yours)).join();
                clean(arena, [sender, receiver]);
                let left = with_stack(move || {
                    claim(channel);
                    arena.statistics().unwrap()
                });
                assert_eq!((left.blocks, left.dying), (blocks, 0));
            });
        });
    });
}

/// The kind of what is in a parcel.
const OBJECT: u8 = 100;

fn open(child: &'static Arena, handle: Handle) -> Result<Lease, Error> {
    child.open(handle, OBJECT)
}

/// Bytes of an account.
const ACCOUNT: usize = 72;

/// As [`set_up`]; each child has an account, and has finished with what it had taken.
fn set_up_owing<const CHILDREN: usize>() -> (World, &'static Channel, [Child; CHILDREN]) {
    let (mut world, channel, children) = set_up::<CHILDREN>(0);
    world.watch_transactions();
    for (child, mine) in children {
        send(channel, 9);
        world.watch_range(next_block(child, ACCOUNT).payload(), ACCOUNT);
        assert_eq!(take(mine), Some(9));
        assert!(mine.task_done().unwrap());
    }
    // The one from the beginning.
    assert!(channel.task_done().unwrap());
    (world, channel, children)
}

/// Takes a message if there is one, and owes it.
fn take(channel: &Channel) -> Option<u64> {
    loop {
        if let Received::Message(message) = channel.receive_within(Duration::ZERO, Claim::Owed, None).unwrap() {
            return Some(message.tag);
        }
        if channel.is_empty().unwrap() {
            return None;
        }
    }
}

/// Takes a message if there is one, and is done with it.
fn do_task(channel: &Channel) -> bool {
    let taken = take(channel);
    assert!(taken.is_none() || channel.task_done().unwrap());
    taken.is_some()
}

/// Also between the steps of a transaction, in which a task is done and no longer owed.
#[test]
fn a_message_of_the_dead_is_lost_or_somebody_elses() {
    at_every_step(|doom| {
        let (world, channel, children) = set_up_owing::<2>();
        let arena = world.arena;
        send(channel, 1);
        send(channel, 2);
        world.check(move || {
            let [(first, mine), (second, yours)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || do_task(mine));
            let other = Process::start(second, move || do_task(yours));
            let (alive, others) = (doomed.join(), u64::from(other.join().unwrap()));
            clean(arena, [first]);
            let (left, lost) = with_stack(move || {
                let left = std::iter::from_fn(|| do_task(channel).then_some(())).count();
                (left as u64, channel.statistics().unwrap().lost)
            });
            assert!(alive.is_none() || lost == 0);
            // Done with by the doomed one, if by nobody else.
            let by_the_doomed = 2 - left - others - lost;
            assert!(by_the_doomed <= 1);
            let joined = channel.join_within(Duration::ZERO).unwrap();
            assert_eq!(joined, if lost == 0 { Joined::Done } else { Joined::Lost(1) });
            assert_eq!(channel.join_within(Duration::ZERO).unwrap(), Joined::Done);
        });
    });
}

#[test]
fn of_many_sent_at_once_the_first_arrive() {
    at_every_step(|doom| {
        let (world, channel, children) = set_up::<1>(0);
        world.check(move || {
            let [(first, mine)] = children;
            model::bounded();
            let doomed = Process::start_doomed(first, doom, move || {
                let bytes = [1, 2, 3, 4].map(u64::to_le_bytes);
                let parts = bytes.each_ref().map(|bytes| [&bytes[..]]);
                let content = |(tag, parts)| (tag, Content { parts, ..Content::default() });
                let mut outbox =
                    mine.pack_many((1..=4).zip(&parts).map(|(tag, parts)| content((tag, &parts[..])))).unwrap();
                while outbox.send_within(Duration::ZERO).unwrap() != Sent::Sent {}
            });
            let all = doomed.join().is_some();
            let tags: Vec<_> = std::iter::from_fn(|| claim(channel)).collect();
            assert_eq!(tags, (1..=tags.len() as u64).collect::<Vec<_>>());
            // An odd number by each commit.
            assert!(if all { tags.len() == 4 } else { [0, 3, 4].contains(&tags.len()) });
        });
    });
}

#[test]
fn what_was_sent_before_the_end_arrives() {
    let (world, channel, children) = set_up::<2>(0);
    world.check(move || {
        let [(first, mine), (second, yours)] = children;
        // Who looks whether the channel is closed and then sleeps may miss the wake-up, and looks again.
        model::bounded();
        let sender = Process::start(first, move || mine.send(1, &1u64.to_le_bytes(), &[], Deadline::NEVER).unwrap());
        let receiver =
            Process::start(second, move || yours.receive(Deadline::NEVER).unwrap().map(|message| message.tag));
        channel.close(Closing::Graceful).unwrap();
        let (sent, received) = (sender.join().unwrap(), receiver.join().unwrap());
        assert_eq!(received, sent.then_some(1));
        assert!(matches!(channel.receive_within(Duration::ZERO, Claim::Nothing, None).unwrap(), Received::Closed));
    });
}
