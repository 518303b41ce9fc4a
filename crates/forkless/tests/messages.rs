//! Values from process to process.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use forkless::ipc::Channel;
use forkless::messages::{DecodeError, Outgoing, Receiver, RecvError, SendError, Sender, bounded, channel};
use forkless::sync::Event;
use forkless::{Deadline, Error, arena};
use forkless_ipc::{KINDS, format};
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Scene, at_every_pass, handle};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

forkless_testing::roles!(KINDS => send_jobs, receive_jobs, receive_and_stay);

/// Machines under test are busy.
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    id: u64,
    name: String,
    #[serde(with = "serde_bytes_as_they_are")]
    data: Vec<u8>,
    step: Step,
    deadline: Option<f64>,
    parts: BTreeMap<String, (i32, bool)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Start,
    Wait(u8),
    Move(i64, i64),
    Stop { code: i32 },
}

/// What the crate `serde_bytes` does.
mod serde_bytes_as_they_are {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Vec::deserialize(deserializer)
    }
}

impl Job {
    /// A job of which everything follows from the number.
    fn of(id: u64) -> Self {
        let step = match id % 4 {
            0 => Step::Start,
            1 => Step::Wait(7),
            2 => Step::Move(-1, i64::MAX),
            _ => Step::Stop { code: -1 },
        };
        Self {
            id,
            name: format!("job number {id}"),
            data: vec![id as u8; (id as usize % 5) * 7000],
            step,
            deadline: id.is_multiple_of(2).then_some(0.5),
            parts: (0..id as i32 % 3).map(|part| (part.to_string(), (part, true))).collect(),
        }
    }
}

/// The channel that this is an end of, without types.
fn raw<T>(sender: &Sender<T>) -> Channel {
    Channel::open(arena().unwrap(), sender.handle()).unwrap()
}

/// What a value becomes.
#[track_caller]
fn wire<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: T) -> (u64, Vec<u8>) {
    let (sender, receiver) = channel().unwrap();
    sender.send(&value).unwrap();
    assert_eq!(receiver.try_recv().unwrap(), value);
    sender.send(&value).unwrap();
    let message = raw(&sender).receive(Deadline::NEVER).unwrap().unwrap();
    (message.tag, message.bytes().unwrap())
}

/// What a message is as a `T`.
fn read<T: DeserializeOwned + 'static>(tag: u64, bytes: &[u8]) -> Result<T, Box<DecodeError>> {
    let (sender, receiver) = channel().unwrap();
    assert!(raw(&sender).send(tag, bytes, &[], Deadline::NEVER).unwrap());
    match receiver.recv() {
        Ok(value) => Ok(value),
        Err(RecvError::Decode(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn pickled<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, String> {
    read(format::PICKLE, bytes).map_err(|error| error.to_string())
}

#[test]
fn scalars_have_formats_of_their_own() {
    assert_eq!(wire(b"\0\xff".to_vec()), (format::BYTES, b"\0\xff".to_vec()));
    assert_eq!(wire("é".to_owned()), (format::STR, "é".into()));
    assert_eq!(wire('é'), (format::STR, "é".into()));
    assert_eq!(wire(-1_i8), (format::INT, vec![0xff; 8]));
    assert_eq!(wire(u32::MAX), (format::INT, vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    assert_eq!(wire(i64::MIN), (format::INT, i64::MIN.to_le_bytes().into()));
    assert_eq!(wire(u64::MAX / 2), (format::INT, i64::MAX.to_le_bytes().into()));
    assert_eq!(wire(0.5_f32), (format::FLOAT, 0.5_f64.to_le_bytes().into()));
    assert_eq!(wire(()), (format::NONE, vec![]));
    assert_eq!(wire(None::<Job>), (format::NONE, vec![]));
    assert_eq!(wire(Some(false)), (format::FALSE, vec![]));
    assert_eq!(wire(true), (format::TRUE, vec![]));
    assert_eq!(wire(Step::Start), (format::STR, "Start".into()));
    assert_eq!(wire(u64::MAX).0, format::PICKLE);
}

#[test]
fn everything_else_is_a_pickle() {
    for id in 0..12 {
        assert_eq!(wire(Job::of(id)).0, format::PICKLE);
    }
    assert_eq!(wire(vec![Step::Start, Step::Wait(1), Step::Move(1, 2), Step::Stop { code: 3 }]).0, format::PICKLE);
    assert_eq!(wire((1_u8, "two".to_owned(), [3.0, 4.0], ((),))).0, format::PICKLE);
    assert_eq!(wire(vec![Some(-1_i64), None, Some(i64::MIN)]).0, format::PICKLE);
    assert_eq!(wire((0..3000_u16).collect::<BTreeSet<_>>()).0, format::PICKLE);
    assert_eq!(wire((0..3000_i32).map(|n| (n, n.to_string())).collect::<BTreeMap<_, _>>()).0, format::PICKLE);
    assert_eq!(wire(vec![b"bytes in bytes".to_vec(), vec![]]).0, format::PICKLE);
    assert_eq!(wire(Vec::<u8>::new()).0, format::BYTES);
}

#[test]
fn text_and_bytes_need_not_be_moved() {
    fn sends<T: DeserializeOwned + PartialEq<R> + Debug + 'static, R: Debug, Q: Outgoing<T> + ?Sized>(what: &Q, is: R) {
        let (sender, receiver) = channel::<T>().unwrap();
        sender.send(what).unwrap();
        assert_eq!(receiver.recv().unwrap(), is);
    }
    sends::<String, _, _>("text", "text");
    sends::<Vec<u8>, _, _>(b"bytes", b"bytes");
    sends::<Vec<u8>, _, _>(&b"bytes"[1..], b"ytes");
    let large = vec![7; 3 << 20];
    sends::<Vec<u8>, _, _>(&large, large.clone());
}

#[test]
fn what_python_pickles_is_read() {
    // pickle.dumps(_, 5), of the values said
    assert_eq!(pickled::<Vec<u8>>(b"\x80\x05C\x03abc\x94."), Ok(b"abc".to_vec()), "b'abc'");
    assert_eq!(pickled::<String>(b"\x80\x05\x95\x07\0\0\0\0\0\0\0\x8c\x03abc\x94."), Ok("abc".to_owned()), "'abc'");
    assert_eq!(pickled::<i64>(b"\x80\x05K\x07."), Ok(7), "7");
    assert_eq!(pickled::<f64>(b"\x80\x05K\x07."), Ok(7.0), "7");
    assert_eq!(pickled::<u128>(b"\x80\x05\x8a\t\0\0\0\0\0\0\0\0\x01."), Ok(1 << 64), "1 << 64");
    assert_eq!(pickled::<Option<bool>>(b"\x80\x05N."), Ok(None), "None");
    assert_eq!(pickled::<bool>(b"\x80\x05\x88."), Ok(true), "True");
    assert_eq!(pickled::<(i32, i32)>(b"\x80\x05K\x01K\x02\x86\x94."), Ok((1, 2)), "(1, 2)");
    assert_eq!(pickled::<Vec<i32>>(b"\x80\x05K\x01K\x02\x86\x94."), Ok(vec![1, 2]), "(1, 2)");
    // The same text twice: {"name": "name"}
    let same = b"\x80\x05\x95\x0e\0\0\0\0\0\0\0}\x94\x8c\x04name\x94h\x01s.";
    assert_eq!(pickled::<BTreeMap<String, String>>(same), Ok([("name".into(), "name".into())].into()));
    // A field that nobody wants may be anything: {"id": 1, "more": [[]]}
    #[derive(Debug, PartialEq, Deserialize)]
    struct Short {
        id: u8,
    }
    let more = b"\x80\x05\x95\x18\0\0\0\0\0\0\0}\x94(\x8c\x02id\x94K\x01\x8c\x04more\x94]\x94]\x94au.";
    assert_eq!(pickled(more), Ok(Short { id: 1 }));
}

#[test]
fn what_is_no_such_value_is_an_error_that_says_what_it_was() {
    let (sender, receiver) = channel::<i64>().unwrap();
    let raw = raw(&sender);
    for (tag, bytes, text) in [
        (format::STR, &b"seven"[..], r#"(text, 5 bytes) is no i64: invalid type: string "seven", expected i64"#),
        (format::BYTES, b"7", "(bytes, 1 bytes) is no i64: invalid type: byte array, expected i64"),
        (format::NONE, b"", "(None, 0 bytes) is no i64: invalid type: unit value, expected i64"),
        (format::INT, b"7", "(an integer, 1 bytes) is no i64: it has 1 bytes where its tag, 3, stands for 8"),
        (
            99,
            b"7",
            "(of no known format, 1 bytes) is no i64: its tag, 99, stands for no format that this version knows",
        ),
        (format::PICKLE, b"", "(a pickle, 0 bytes) is no i64: it is damaged: it ends too early"),
        (format::PICKLE, b"N.", "(a pickle, 2 bytes) is no i64: invalid type: unit value, expected i64"),
        (
            format::PICKLE,
            b"cfractions\nFraction\n(X\x03\0\0\x001/2tR.",
            "(a pickle, 32 bytes) is no i64: it has an object of Python in it, made by fractions.Fraction",
        ),
        (
            format::PICKLE,
            b"cbuiltins\nint\n.",
            "(a pickle, 15 bytes) is no i64: it has an object of Python in it: builtins.int",
        ),
    ] {
        assert!(raw.send(tag, bytes, &[], Deadline::NEVER).unwrap());
        sender.send(&7).unwrap();
        let error = receiver.recv().unwrap_err();
        assert_eq!(error.to_string(), format!("a message {text}"));
        let RecvError::Decode(error) = error else { panic!("{error:?}") };
        assert_eq!((error.tag(), error.bytes(), error.clone().into_bytes()), (tag, bytes, bytes.to_vec()));
        assert_eq!(receiver.recv().unwrap(), 7, "the channel goes on");
    }
    let error = pickled::<(u8, u8)>(b"(K\x01K\x02K\x03t.").unwrap_err();
    assert!(error.ends_with("is no (u8, u8): it has 3 items, 1 too many"), "{error}");
    let error = pickled::<u8>(&[b"X\xe8\x03\0\0", &[b'x'; 1000][..], b"."].concat()).unwrap_err();
    assert!(error.ends_with("xxx…") && error.len() < 400, "{error}");
    assert!(pickled::<Step>(b"}(X\x04\0\0\0WaitK\x01X\x04\0\0\0StopK\x01u.").is_err());
    assert!(pickled::<Step>(b"}X\x05\0\0\0StartK\x01s.").is_err(), "Start has nothing in it");
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    let (sender, receiver) = channel::<Vec<i128>>().unwrap();
    let error = sender.send(&vec![1]).unwrap_err();
    assert!(matches!(error, SendError::Encode(_)));
    assert!(error.to_string().starts_with("a value of type Vec<i128> cannot be sent: "), "{error}");
    assert!(receiver.is_empty().unwrap());
    assert!(Error::from(error).to_string().contains("cannot be sent"));
}

/// A type that may be nested at will.
#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Nest(Vec<Nest>);

#[test]
fn a_message_has_bounds() {
    let deep = |levels: usize| [vec![b']'; levels], vec![b'a'; levels - 1], b".".to_vec()].concat();
    assert!(pickled::<Nest>(&deep(128)).is_ok());
    for bytes in [deep(130), deep(1_000_000), b"]\x94h\0a.".to_vec()] {
        let error = pickled::<Nest>(&bytes).unwrap_err();
        assert!(error.ends_with("it is nested more than 128 deep, or contains itself"), "{error}");
    }
    // 2 to the power of 60 lists in 300 bytes: each is the one before, twice.
    let twice = |level: u8| [b'h', level, 0x86, b'q', level + 1];
    let laughs = [&b"]q\0"[..], &(0..60).flat_map(twice).collect::<Vec<u8>>(), b"."].concat();
    let start = Instant::now();
    let error = pickled::<Nest>(&laughs).unwrap_err();
    assert!(error.contains("it repeats so many parts"), "{error}");
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(pickled::<IgnoredAny>(&laughs).is_ok(), "nobody looks at it");
}

#[test]
fn a_receiver_says_how_long_a_message_may_be() {
    let (sender, mut receiver) = channel::<Vec<u8>>().unwrap();
    receiver.set_max_bytes(50_000);
    for length in [50_000, 50_001, 3] {
        sender.send(&vec![1; length]).unwrap();
    }
    let receiver = receiver.clone();
    assert_eq!(receiver.recv().unwrap().len(), 50_000);
    let text = "a message (bytes, 50001 bytes) is no Vec<u8>: it is longer than this receiver accepts (50000 \
                bytes)";
    assert_eq!(receiver.recv().unwrap_err().to_string(), text);
    assert_eq!(receiver.recv().unwrap().len(), 3);
}

#[test]
fn a_bounded_channel_is_full_and_an_empty_one_empty() {
    let (sender, receiver) = bounded::<u8>(2).unwrap();
    assert_eq!((sender.capacity().unwrap(), receiver.capacity().unwrap()), (Some(2), Some(2)));
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    sender.send(&1).unwrap();
    sender.try_send(&2).unwrap();
    assert_eq!((sender.len().unwrap(), receiver.len().unwrap(), receiver.is_empty().unwrap()), (2, 2, false));
    let error = sender.try_send(&3).unwrap_err();
    assert!(matches!(error, SendError::Full));
    assert_eq!(Error::from(error).to_string(), "the channel is full");
    for timeout in [1, 70].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(matches!(sender.send_timeout(&3, timeout), Err(SendError::Timeout)));
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
    }
    assert!(matches!(sender.send_deadline(&3, Instant::now()), Err(SendError::Timeout)));
    assert_eq!(receiver.try_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
    for timeout in [1, 70].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(matches!(receiver.recv_timeout(timeout), Err(RecvError::Timeout)));
        assert!(start.elapsed() >= timeout && start.elapsed() < timeout + SOON);
    }
    let error = receiver.recv_deadline(Instant::now()).unwrap_err();
    assert_eq!(Error::from(error).to_string(), "no message came for as long as this process waited to receive");
    let debug = format!("{sender:?} {receiver:?}");
    assert!(debug.contains("Sender {") && debug.contains("capacity: Some(2)"), "{debug}");
    assert_eq!(channel::<u8>().unwrap().0.capacity().unwrap(), None);
    assert_eq!(bounded::<u8>(0).unwrap().0.capacity().unwrap(), Some(1));
    assert_eq!(bounded::<u8>(usize::MAX).unwrap().0.capacity().unwrap(), Some(i32::MAX as usize));
}

#[test]
fn threads_share_clones_and_ends_open_by_handle() {
    let (sender, receiver) = bounded::<u64>(3).unwrap();
    let sum: u64 = thread::scope(|scope| {
        for part in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || (0..250).for_each(|n| sender.send(&(part * 250 + n)).unwrap()));
        }
        let sums: Vec<_> = (0..2)
            .map(|_| Receiver::<u64>::open(receiver.handle().to_string().parse().unwrap()).unwrap())
            .map(|receiver| scope.spawn(move || receiver.iter().take(500).map(Result::unwrap).sum::<u64>()))
            .collect();
        sums.into_iter().map(|sum| sum.join().unwrap()).sum()
    });
    assert_eq!(sum, 999 * 1000 / 2);
    let stale = |error: Error| assert!(matches!(error, Error::Arena(forkless_shm::Error::Stale(_))), "{error}");
    stale(Sender::<u64>::open(Event::create().unwrap().handle()).unwrap_err());
    let handle = sender.handle();
    drop((sender, receiver));
    stale(Receiver::<u64>::open(handle).unwrap_err());
}

#[test]
fn a_closed_channel_comes_to_an_end() {
    let (sender, receiver) = bounded::<u8>(1).unwrap();
    sender.send(&1).unwrap();
    thread::scope(|scope| {
        // Waits for room that does not come.
        let waits = scope.spawn(|| sender.send(&2).unwrap_err());
        Receiver::<u8>::open(receiver.handle()).unwrap().close().unwrap();
        assert!(matches!(waits.join().unwrap(), SendError::Closed));
    });
    assert!(sender.is_closed().unwrap() && receiver.is_closed().unwrap());
    assert!(matches!(sender.try_send(&2), Err(SendError::Closed)));
    assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), [1]);
    let error = receiver.recv().unwrap_err();
    assert!(matches!(error, RecvError::Closed));
    assert_eq!(Error::from(error).to_string(), "the channel is closed, and nothing is left in it");
    assert_eq!(receiver.try_iter().count(), 0);
}

/// How many jobs a role sends or receives.
const JOBS: u64 = 12;

/// Sends jobs; the board says how many sends have returned.
fn send_jobs(mut scene: Scene) {
    let board = scene.board();
    let sender = Sender::open(scene.handle()).unwrap();
    for id in 0..JOBS {
        sender.send(&Job::of(id)).unwrap();
        board.set(0, id + 1);
    }
}

/// Receives jobs, which must be whole and in order; the board says how many it has.
fn receive_jobs(mut scene: Scene) {
    let board = scene.board();
    let receiver = Receiver::<Job>::open(scene.handle()).unwrap();
    for id in 0..JOBS {
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Job::of(id));
        board.set(0, id + 1);
    }
}

/// Waits for a message that does not come.
fn receive_and_stay(mut scene: Scene) {
    let board = scene.board();
    let receiver = Receiver::<Job>::open(scene.handle()).unwrap();
    board.set(0, 1);
    let _ = receiver.recv();
}

#[test]
#[cfg(debug_assertions)] // the points where a process can be made to die are in debug builds only
fn what_a_dying_sender_sent_arrives_once_and_whole() {
    let arena = arena().unwrap();
    let board = Board::create(arena, 1);
    for point in ["channel.send.written", "channel.send.committed"] {
        let deaths = at_every_pass(|pass| {
            let (sender, receiver) = channel().unwrap();
            board.set(0, 0);
            let mut child = Child::start_doomed(arena, "send_jobs", point, pass, &[&board, &handle(sender.lease())]);
            child.wait();
            // Takes the senders' lock from the dead.
            sender.send(&Job::of(1000)).unwrap();
            let mut received = 0;
            loop {
                let job: Job = receiver.recv_timeout(PATIENCE).unwrap();
                if job.id == 1000 {
                    break;
                }
                assert_eq!(job, Job::of(received));
                received += 1;
            }
            assert!((board.get(0)..=board.get(0) + 1).contains(&received), "{point}, pass {pass}");
            assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
            child.finish()
        });
        assert_eq!(u64::from(deaths), JOBS, "{point}");
    }
}

#[test]
#[cfg(debug_assertions)]
fn what_a_dying_receiver_did_not_have_yet_is_there_for_others() {
    let arena = arena().unwrap();
    let board = Board::create(arena, 1);
    for point in ["channel.receive.read", "channel.receive.committed"] {
        let deaths = at_every_pass(|pass| {
            let (sender, receiver) = channel().unwrap();
            board.set(0, 0);
            (0..JOBS).for_each(|id| sender.send(&Job::of(id)).unwrap());
            let mut child = Child::start_doomed(arena, "receive_jobs", point, pass, &[&board, &handle(sender.lease())]);
            child.wait();
            let rest: Vec<Job> = receiver.try_iter().map(Result::unwrap).collect();
            let first = JOBS - rest.len() as u64;
            assert!((board.get(0)..=board.get(0) + 1).contains(&first), "{point}, pass {pass}");
            assert!(rest.iter().zip(first..).all(|(job, id)| *job == Job::of(id)), "{point}, pass {pass}");
            child.finish()
        });
        assert_eq!(u64::from(deaths), JOBS, "{point}");
    }
}

#[test]
fn whoever_waits_goes_on_when_the_one_who_waited_first_is_killed() {
    let arena = arena().unwrap();
    let board = Board::create(arena, 1);
    let (sender, receiver) = channel::<Job>().unwrap();
    let child = Child::start(arena, "receive_and_stay", &[&board, &handle(sender.lease())]);
    board.wait(0, |ready| ready == 1);
    assert!(matches!(receiver.recv_timeout(Duration::from_millis(60)), Err(RecvError::Timeout)));
    child.kill();
    assert_eq!(child.finish(), ExitStatus::Signaled(9));
    sender.send(&Job::of(3)).unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), Job::of(3));
}
