//! Tasks through real channels, taken and answered by this process itself; and the schedule against a naive one.
#![allow(clippy::unwrap_used)] // unwrapping is how a test fails

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forkless_ipc::{Channel, Claim, Content, KINDS, Message, Parcel, Received};
use forkless_process::pool::{Dispatch, Kept, Order, Payload, Schedule, Stage, Tag};
use forkless_shm::{Arena, Error};
use forkless_sys::time::Deadline;
use forkless_testing::{PATIENCE, Random};
use proptest::prelude::*;

const ANSWER: u16 = 1;

fn arena() -> &'static Arena {
    Arena::create(KINDS).unwrap()
}

fn dispatch(workers: usize) -> Dispatch<&'static str> {
    Dispatch::create(arena(), workers).unwrap()
}

fn order<T>(token: T) -> Order<T> {
    Order { payload: Payload::Bytes(b"task".to_vec().into()), token }
}

/// What a worker takes next, if there is something.
fn take<T>(dispatch: &Dispatch<T>) -> Option<Message> {
    match dispatch.tasks().receive_within(Duration::ZERO, Claim::Nothing, None).unwrap() {
        Received::Message(message) => Some(message),
        _ => None,
    }
}

fn take_id<T>(dispatch: &Dispatch<T>) -> Option<u64> {
    take(dispatch).map(|message| Tag::unpack(message.tag).id)
}

fn answer<T>(dispatch: &Dispatch<T>, kind: u16, id: u64) {
    assert!(dispatch.results().send(Tag { kind, id }.pack(), b"done", &[], Deadline::NEVER).unwrap());
}

fn arrived<T>(dispatch: &Dispatch<T>) -> Vec<Tag> {
    let mut refused = Vec::new();
    let arrived = dispatch.receive(usize::MAX, Duration::ZERO, None, |kind| kind == ANSWER, &mut refused).unwrap();
    assert!(refused.is_empty());
    arrived.into_iter().map(|arrived| arrived.tag).collect()
}

#[test]
fn a_tag_has_a_kind_and_an_id() {
    for (kind, id) in [(0, 0), (1, 1), (u16::MAX, (1 << 48) - 1), (17, 1 << 47)] {
        let tag = Tag { kind, id };
        assert_eq!(Tag::unpack(tag.pack()), tag);
    }
    assert_eq!(Tag { kind: 0, id: 5 }.pack(), 5);
}

#[test]
fn few_tasks_are_sent_ahead_of_the_workers() {
    let dispatch = dispatch(2);
    let ids: Vec<_> = (0..10).map(|_| dispatch.submit(order("task"), 0).0).collect();
    assert_eq!(dispatch.counts(), (10, 8, 2));
    assert_eq!(dispatch.tasks().len().unwrap(), 2);
    assert_eq!(dispatch.ids(true), ids[2..]);
    assert_eq!(dispatch.ids(false), ids);
    // One for each that is taken, in order.
    for id in &ids {
        assert_eq!(take_id(&dispatch), Some(*id));
        assert!(dispatch.feed_now().is_empty());
        assert_eq!(dispatch.stage(*id), Some(Stage::Sent));
        assert!(dispatch.tasks().len().unwrap() <= 2);
    }
    assert_eq!(dispatch.counts(), (10, 0, 10));
    assert_eq!(take_id(&dispatch), None);
    dispatch.set_workers(5);
    for _ in 0..10 {
        dispatch.submit(order("task"), 0);
    }
    assert_eq!(dispatch.tasks().len().unwrap(), 5);
}

#[test]
fn answers_make_room_for_more() {
    let dispatch = dispatch(1);
    let ids: Vec<_> = (0..3).map(|_| dispatch.submit(order("task"), 0).0).collect();
    for id in ids {
        assert_eq!(take_id(&dispatch), Some(id));
        assert_eq!(take_id(&dispatch), None, "one worker has one task");
        answer(&dispatch, ANSWER, id);
        assert_eq!(arrived(&dispatch), [Tag { kind: ANSWER, id }]);
        assert_eq!(dispatch.take(id), Some("task"));
        assert_eq!(dispatch.take(id), None, "there is one outcome");
    }
    assert_eq!(dispatch.counts(), (0, 0, 0));
}

#[test]
fn more_may_be_ahead_when_workers_are_fast() {
    let dispatch = dispatch(1);
    assert_eq!(dispatch.ahead(), 1);
    let until = Instant::now() + PATIENCE;
    while dispatch.ahead() == 1 {
        assert!(Instant::now() < until);
        let (first, _) = dispatch.submit_all((0..256).map(|_| order("task")).collect(), 0);
        for id in first..first + 256 {
            answer(&dispatch, ANSWER, id);
        }
        for tag in arrived(&dispatch) {
            dispatch.take(tag.id);
        }
        while take(&dispatch).is_some() {}
    }
}

#[test]
fn urgent_tasks_overtake_those_that_wait() {
    let dispatch = dispatch(1);
    let (sent, _) = dispatch.submit(order("sent"), -5);
    let (low, _) = dispatch.submit(order("low"), 0);
    let (first, _) = dispatch.submit_all(vec![order("high"), order("high")], 7);
    let mut taken = Vec::new();
    while let Some(id) = take_id(&dispatch) {
        taken.push(id);
        dispatch.feed_now();
    }
    assert_eq!(taken, [sent, first, first + 1, low]);
}

#[test]
fn what_waits_can_be_taken_back_and_what_was_sent_not() {
    let dispatch = dispatch(1);
    let (sent, _) = dispatch.submit(order("sent"), 0);
    let (pending, _) = dispatch.submit(order("pending"), 0);
    assert_eq!(dispatch.take_pending(sent), Err(Some(Stage::Sent)));
    assert_eq!(dispatch.take_pending(pending), Ok("pending"));
    assert_eq!(dispatch.take_pending(pending), Err(None));
    assert!(dispatch.hold(sent));
    assert!(!dispatch.hold(sent), "it is held");
    assert_eq!(dispatch.take_pending(sent), Ok("sent"));
    assert_eq!(take_id(&dispatch), Some(sent), "nobody can take it out of the channel");
    assert_eq!(take_id(&dispatch), None);
}

#[test]
fn what_cannot_be_sent_comes_back_with_the_reason() {
    let dispatch = dispatch(2);
    let elsewhere = Parcel::pack(arena(), &Content { parts: &[b"x"], ..Content::default() }).unwrap();
    let foreign = Order { payload: Payload::Parcel(Box::new(elsewhere)), token: "foreign" };
    let (id, refused) = dispatch.submit(foreign, 0);
    assert!(matches!(refused[..], [("foreign", Error::Stale(_))]), "{refused:?}");
    assert_eq!(dispatch.stage(id), None);
    let (next, refused) = dispatch.submit(order("next"), 0);
    assert!(refused.is_empty());
    assert_eq!(take_id(&dispatch), Some(next));
    assert_eq!(dispatch.counts(), (1, 0, 1));
}

#[test]
fn small_and_large_ones_keep_their_order() {
    let arena = arena();
    let dispatch = Dispatch::create(arena, 6).unwrap();
    let large = || {
        let parts: [&[u8]; 1] = [&[7; 100_000]];
        Payload::Parcel(Box::new(Parcel::pack(arena, &Content { parts: &parts, ..Content::default() }).unwrap()))
    };
    let orders = (0..6).map(|number| match number % 3 {
        0 => Order { payload: large(), token: number },
        _ => order(number),
    });
    let (first, refused) = dispatch.submit_all(orders.collect(), 0);
    assert!(refused.is_empty());
    for number in 0..6 {
        let message = take(&dispatch).unwrap();
        assert_eq!(message.tag, first + number);
        assert_eq!(message.length().unwrap(), if number % 3 == 0 { 100_000 } else { 4 });
    }
}

#[test]
fn what_is_kept_is_sent_again_as_another_attempt() {
    let arena = arena();
    let dispatch = Dispatch::create(arena, 1).unwrap();
    let other = Channel::create(arena, 0).unwrap();
    let lease = arena.open(other.lease().handle().unwrap(), Channel::KIND).unwrap();
    let kept = Payload::Kept(Box::new(Kept { bytes: vec![3; 10], leases: vec![lease] }));
    for payload in [Payload::Bytes(vec![3; 10].into()), kept] {
        let (id, _) = dispatch.submit(Order { payload, token: "task" }, 0);
        for attempt in 0..3 {
            let message = take(&dispatch).unwrap();
            assert_eq!(Tag::unpack(message.tag), Tag { kind: attempt, id });
            assert_eq!(message.bytes().unwrap(), [3; 10]);
            assert!(!dispatch.again(id).0, "it has not failed");
            assert!(dispatch.hold(id));
            assert!(dispatch.again(id).0);
            assert_eq!(dispatch.stage(id), Some(Stage::Sent));
        }
        assert!(take(&dispatch).is_some());
        assert_eq!(dispatch.take(id), Some("task"));
        assert!(!dispatch.again(id).0, "it is gone");
    }
}

#[test]
fn what_is_gone_is_not_sent_again() {
    let arena = arena();
    let dispatch = Dispatch::create(arena, 1).unwrap();
    let parcel = Parcel::pack(arena, &Content { parts: &[b"once"], ..Content::default() }).unwrap();
    let (id, refused) = dispatch.submit(Order { payload: Payload::Parcel(Box::new(parcel)), token: "once" }, 0);
    assert!(refused.is_empty());
    assert_eq!(dispatch.inspect(id, |payload, _| matches!(payload, Payload::Gone)), Some(true));
    assert!(dispatch.hold(id));
    let (again, refused) = dispatch.again(id);
    assert!(!again);
    assert!(refused.is_empty());
    assert_eq!(dispatch.stage(id), Some(Stage::Held));
    assert_eq!(dispatch.take(id), Some("once"));
}

#[test]
fn only_what_was_not_answered_is_lost() {
    let dispatch = dispatch(1);
    let (id, _) = dispatch.submit(order("task"), 0);
    let first = take(&dispatch).unwrap().tag;
    // It has failed, and is tried again: then its first worker dies, late.
    assert!(dispatch.hold(id));
    assert_eq!(dispatch.hold_lost(first), None, "answered, and held");
    assert!(dispatch.again(id).0);
    assert_eq!(dispatch.hold_lost(first), None, "answered, and sent again");
    let second = take(&dispatch).unwrap().tag;
    assert_eq!(dispatch.hold_lost(second), Some(id));
    assert_eq!(dispatch.stage(id), Some(Stage::Held));
    assert_eq!(dispatch.hold_lost(second), None, "lost once");
    dispatch.take(id);
    assert_eq!(dispatch.hold_lost(second), None, "gone");
}

#[test]
fn an_order_to_end_comes_behind_what_was_sent() {
    let dispatch = dispatch(2);
    let (id, _) = dispatch.submit(order("task"), 0);
    dispatch.send_stop().unwrap();
    assert_eq!(take(&dispatch).unwrap().tag, id);
    assert_eq!(take(&dispatch).unwrap().tag, 0);
}

/// Threads that submit, work, take back and take in, at the same time: each token comes out once.
#[test]
fn every_task_has_one_outcome_whoever_is_faster() {
    const TASKS: usize = 3000;
    let dispatch = Dispatch::create(arena(), 3).unwrap();
    let (outcomes, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (submitted, worked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let out = |token: usize| outcomes.lock().unwrap().push(token);
    let is_over = || over.load(Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (dispatch, submitted) = (&dispatch, &submitted);
            scope.spawn(move || {
                let mut dice = Random::new(half as u64);
                for number in 0..TASKS / 2 {
                    let (_, refused) = dispatch.submit(order(half * TASKS / 2 + number), dice.below(3) as i32);
                    assert!(refused.is_empty());
                    submitted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over() {
                    let bound = Duration::from_millis(5);
                    let received = dispatch.tasks().receive_within(bound, Claim::Nothing, None).unwrap();
                    if let Received::Message(message) = received {
                        worked.fetch_add(1, Ordering::Relaxed);
                        answer(&dispatch, ANSWER, Tag::unpack(message.tag).id);
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut dice = Random::new(9);
            while !is_over() {
                let id = 1 + dice.below(TASKS as u64);
                if let Ok(token) = dispatch.take_pending(id) {
                    out(token);
                }
                std::thread::yield_now();
            }
        });
        while outcomes.lock().unwrap().len() < TASKS {
            assert!(Instant::now() < until, "{:?}", dispatch.counts());
            let mut refused = Vec::new();
            let bound = Duration::from_millis(5);
            let arrived = dispatch.receive(usize::MAX, bound, None, |kind| kind == ANSWER, &mut refused).unwrap();
            arrived.iter().filter_map(|arrived| dispatch.take(arrived.tag.id)).for_each(out);
            refused.extend(dispatch.feed_now());
            assert!(refused.is_empty());
        }
        over.store(true, Ordering::Relaxed);
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes.len(), TASKS);
    assert_eq!(outcomes.iter().collect::<HashSet<_>>().len(), TASKS);
    assert_eq!(submitted.into_inner(), TASKS);
    assert!(worked.into_inner() > 0);
    assert_eq!(dispatch.counts(), (0, 0, 0));
}

// --- the schedule against a naive one ---

/// What is done, some of it to one of the tasks there have been.
#[derive(Clone, Debug)]
enum Step {
    Add(i32),
    SendNext,
    Take(prop::sample::Index),
    Hold(prop::sample::Index),
    Again(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => prop::sample::select(vec![0, 0, 0, 1, -1, 5, i32::MIN, i32::MAX]).prop_map(Step::Add),
        4 => Just(Step::SendNext),
        2 => which().prop_map(Step::Take),
        2 => which().prop_map(Step::Hold),
        2 => which().prop_map(Step::Again),
    ];
    prop::collection::vec(step, 0..200)
}

/// A task of the model.
#[derive(Clone, Debug)]
struct Task {
    id: u64,
    priority: i32,
    stage: Stage,
    /// When it lined up.
    turn: usize,
    attempt: u16,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_schedules_as_a_naive_one_does(steps in steps()) {
        let mut schedule = Schedule::default();
        let mut model: Vec<Task> = Vec::new();
        let mut ids = vec![0];
        for (turn, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add(priority) => {
                    let id = schedule.add(turn, priority);
                    prop_assert!(!ids.contains(&id));
                    ids.push(id);
                    model.push(Task { id, priority, stage: Stage::Pending, turn, attempt: 0 });
                }
                Step::SendNext => {
                    let pending = model.iter_mut().filter(|task| task.stage == Stage::Pending);
                    let next = pending.min_by_key(|task| (std::cmp::Reverse(task.priority), task.turn));
                    prop_assert_eq!(schedule.send_next(), next.as_ref().map(|task| task.id));
                    if let Some(task) = next {
                        task.stage = Stage::Sent;
                    }
                }
                Step::Take(which) => {
                    let id = *which.get(&ids);
                    let place = model.iter().position(|task| task.id == id);
                    prop_assert_eq!(schedule.take(id).is_some(), place.is_some());
                    place.map(|place| model.remove(place));
                }
                Step::Hold(which) => {
                    let id = *which.get(&ids);
                    let task = model.iter_mut().find(|task| task.id == id && task.stage == Stage::Sent);
                    prop_assert_eq!(schedule.hold(id), task.is_some());
                    if let Some(task) = task {
                        task.stage = Stage::Held;
                    }
                }
                Step::Again(which) => {
                    let id = *which.get(&ids);
                    let task = model.iter_mut().find(|task| task.id == id && task.stage == Stage::Held);
                    prop_assert_eq!(schedule.again(id), task.is_some());
                    if let Some(task) = task {
                        (task.stage, task.turn, task.attempt) = (Stage::Pending, turn, task.attempt + 1);
                    }
                }
            }
            let count = |stage| model.iter().filter(|task| task.stage == stage).count();
            prop_assert_eq!(schedule.live(), model.len());
            prop_assert_eq!(schedule.waiting(), count(Stage::Pending));
            prop_assert_eq!(schedule.sent(), count(Stage::Sent));
            prop_assert_eq!(schedule.ids(None), model.iter().map(|task| task.id).collect::<Vec<_>>());
            for id in &ids {
                let task = model.iter().find(|task| task.id == *id);
                prop_assert_eq!(schedule.stage(*id), task.map(|task| task.stage));
                prop_assert_eq!(schedule.attempt(*id), task.map(|task| task.attempt));
            }
        }
    }
}
