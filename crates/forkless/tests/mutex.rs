//! A mutex with a value, used by processes that die.
#![allow(clippy::unwrap_used)] // in a role, too, unwrapping is how a test fails

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use forkless::sync::{Event, Lock, LockError, Mutex, MutexGuard};
use forkless::zerocopy::{FromBytes, Immutable, IntoBytes};
use forkless::{Error, arena};
use forkless_ipc::KINDS;
use forkless_sys::process::ExitStatus;
use forkless_testing::{Board, Child, PATIENCE, Random, Scene, rounds, seed};

forkless_testing::roles!(KINDS => hold_changed, increment, increment_for_ever, recover_and_increment);

const KILLED: ExitStatus = ExitStatus::Signaled(9);

/// A waiter learns of a death within 100 ms. Machines under test are busy.
const SOON: Duration = Duration::from_secs(30);

/// Large enough to be torn, if it could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Twins {
    one: u64,
    between: [u8; 1000],
    other: u64,
}

impl Twins {
    fn of(number: u64) -> Self {
        Self { one: number, between: [number as u8; 1000], other: number }
    }
}

/// As an argument of a role.
fn name(mutex: &Mutex<Twins>) -> String {
    forkless_testing::handle(mutex.lease())
}

fn open(scene: &mut Scene) -> Mutex<Twins> {
    Mutex::open(scene.handle()).unwrap()
}

#[allow(clippy::result_large_err)] // the guard has the value
fn patiently(mutex: &Mutex<Twins>) -> Result<MutexGuard<'_, Twins>, LockError<MutexGuard<'_, Twins>>> {
    Ok(mutex.lock_timeout(PATIENCE)?.expect("the mutex within the test's patience"))
}

/// Adds one to a value that must be whole.
fn add(guard: &mut MutexGuard<'_, Twins>) {
    let number = guard.one;
    assert_eq!(**guard, Twins::of(number));
    **guard = Twins::of(number + 1);
}

#[test]
fn it_is_used_as_that_of_the_standard_library() {
    let mutex = Mutex::create(1_u64).unwrap();
    let mut guard = mutex.lock().unwrap();
    *guard += 1;
    assert_eq!(format!("{guard} {guard:?}"), "2 2");
    assert!(mutex.try_lock().unwrap().is_none());
    assert!(mutex.lock_timeout(Duration::ZERO).unwrap().is_none());
    assert!(mutex.lock_deadline(Instant::now()).unwrap().is_none());
    assert_eq!(mutex.holder().unwrap(), Some(arena().unwrap().me().unwrap()));
    drop(guard);
    assert_eq!(mutex.holder().unwrap(), None);
    assert_eq!(*mutex.try_lock().unwrap().unwrap(), 2);
    let again = Mutex::<u64>::open(mutex.handle().to_string().parse().unwrap()).unwrap();
    *again.lock().unwrap() = 7;
    assert_eq!(*mutex.lock().unwrap(), 7);
    let text = format!("{mutex:?}");
    assert!(text.contains(&mutex.handle().to_string()) && text.contains("poisoned: false"), "{text}");
}

#[test]
fn a_timeout_is_waited_for_and_not_much_longer() {
    let mutex = Mutex::create([0_u8; 3]).unwrap();
    let _guard = mutex.lock().unwrap();
    for timeout in [1, 30, 120].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(mutex.lock_timeout(timeout).unwrap().is_none());
        let waited = start.elapsed();
        assert!(waited >= timeout && waited < timeout + SOON, "{waited:?} in place of {timeout:?}");
    }
}

#[test]
fn threads_take_turns() {
    let mutex = Mutex::create(Twins::of(0)).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| add(&mut mutex.lock().unwrap())));
        }
    });
    assert_eq!(*mutex.lock().unwrap(), Twins::of(2000));
}

#[test]
fn a_handle_is_good_for_one_type_and_as_long_as_somebody_has_it() {
    let mutex = Mutex::create(1_u64).unwrap();
    let wrong = |error: Error| {
        assert!(matches!(error, Error::WrongType { .. }), "{error}");
        error.to_string()
    };
    let text = wrong(Mutex::<u32>::open(mutex.handle()).unwrap_err());
    assert_eq!(text, "the mutex holds a value of type u64 (8 bytes), not of type u32 (4 bytes)");
    wrong(Mutex::<f64>::open(mutex.handle()).unwrap_err());
    wrong(Mutex::<[u64; 2]>::open(mutex.handle()).unwrap_err());
    let stale = |error: Error| assert!(matches!(error, Error::Arena(forkless_shm::Error::Stale(_))), "{error}");
    stale(Lock::open(mutex.handle()).unwrap_err());
    stale(Mutex::<u64>::open(Event::create().unwrap().handle()).unwrap_err());
    let mut elsewhere = mutex.handle();
    elsewhere.arena ^= 1;
    stale(Mutex::<u64>::open(elsewhere).unwrap_err());
    let handle = mutex.handle();
    drop(mutex);
    stale(Mutex::<u64>::open(handle).unwrap_err());
}

#[test]
fn the_type_is_known_by_its_name_without_the_path() {
    mod elsewhere {
        use forkless::zerocopy::{FromBytes, Immutable, IntoBytes};

        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
        #[repr(C)]
        pub(super) struct Twins {
            pub(super) one: u64,
            between: [u8; 1000],
            other: u64,
        }
    }
    let mutex = Mutex::create(Twins::of(3)).unwrap();
    assert_eq!(Mutex::<elsewhere::Twins>::open(mutex.handle()).unwrap().lock().unwrap().one, 3);
}

#[test]
fn a_panic_undoes_the_change_and_poisons_nothing() {
    let mutex = Mutex::create(1_u64).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = mutex.lock().unwrap();
        *guard = 2;
        panic!("as programs do");
    }));
    assert!(panicked.is_err());
    assert_eq!(*mutex.lock().unwrap(), 1);

    /// Uses the mutex when it is dropped, be it by a panic.
    struct Last<'a>(&'a Mutex<u64>);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 10;
        }
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _last = Last(&mutex);
        panic!("as programs do");
    }));
    assert!(panicked.is_err());
    assert_eq!(*mutex.lock().unwrap(), 11, "that guard had nothing to do with the panic");
}

/// Takes the mutex, changes the value, and keeps both until killed.
fn hold_changed(mut scene: Scene) {
    let board = scene.board();
    let mutex = open(&mut scene);
    let mut guard = patiently(&mutex).unwrap();
    *guard = Twins::of(99);
    board.set(0, 1);
    board.wait(0, |_| false);
}

#[test]
fn a_waiter_learns_soon_who_died_and_finds_the_value_whole() {
    let board = Board::create(arena().unwrap(), 1);
    let mutex = Mutex::create(Twins::of(1)).unwrap();
    for _ in 0..5 {
        board.set(0, 0);
        let child = Child::start(arena().unwrap(), "hold_changed", &[&board, &name(&mutex)]);
        board.wait(0, |held| held == 1);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let Err(LockError::OwnerDied(died)) = patiently(&mutex) else { panic!("nobody was told") };
                let learned = Instant::now();
                let (owner, pid) = (died.death().owner(), died.death().pid());
                assert_eq!(died.death().name(), Some("hold_changed"));
                assert_eq!(*died.recover(), Twins::of(1));
                (owner, pid, learned)
            });
            let (owner, death) = (child.owner(), Instant::now());
            let pid = arena().unwrap().process(owner).unwrap().pid;
            child.kill();
            let (told, told_pid, learned) = waiter.join().unwrap();
            assert_eq!((told, told_pid), (owner, Some(pid)));
            assert!(learned - death < SOON, "after {:?}", learned - death);
        });
        assert!(!mutex.is_poisoned().unwrap());
        assert_eq!(child.finish(), KILLED);
    }
}

#[test]
fn it_is_poisoned_until_somebody_recovers_it() {
    let board = Board::create(arena().unwrap(), 1);
    let mutex = Mutex::create(Twins::of(1)).unwrap();
    let child = Child::start(arena().unwrap(), "hold_changed", &[&board, &name(&mutex)]);
    board.wait(0, |held| held == 1);
    assert!(!mutex.is_poisoned().unwrap());
    let owner = child.owner();
    assert_eq!(child.finish_killed(), KILLED);
    assert!(mutex.is_poisoned().unwrap());
    // Giving up with `?` hides nothing from the next one.
    for _ in 0..2 {
        let error = Error::from(mutex.lock().unwrap_err());
        assert!(matches!(&error, Error::OwnerDied(death) if death.owner() == owner), "{error}");
        assert!(error.to_string().starts_with("process hold_changed (pid "), "{error}");
    }
    assert!(matches!(mutex.try_lock(), Err(LockError::OwnerDied(_))));
    // Nor does a change.
    let Err(LockError::OwnerDied(died)) = mutex.lock() else { panic!("it is poisoned") };
    *died.into_inner() = Twins::of(5);
    let Err(LockError::OwnerDied(died)) = mutex.lock() else { panic!("it is poisoned") };
    let guard = died.into_inner();
    assert_eq!(*guard, Twins::of(5));
    mutex.clear_poison().unwrap();
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), Twins::of(5));
}

/// Adds one, whoever died.
fn increment(mut scene: Scene) {
    let mutex = open(&mut scene);
    add(&mut patiently(&mutex).or_else(LockError::recover).unwrap());
}

/// Point, what the child adds, and whether the mutex is poisoned by its death.
const DEATHS: [(&str, u64, bool); 3] =
    [("value.taken", 0, true), ("value.written", 0, true), ("value.committed", 1, true)];

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn a_change_happens_or_it_does_not_wherever_its_process_dies() {
    let mutex = Mutex::create(Twins::of(1)).unwrap();
    let mut number = 1;
    for (point, added, poisoned) in DEATHS {
        let child = Child::start_doomed(arena().unwrap(), "increment", point, 1, &[&name(&mutex)]);
        let owner = child.owner();
        assert_eq!(child.finish(), KILLED, "{point}");
        let taken = patiently(&mutex);
        let told = matches!(&taken, Err(LockError::OwnerDied(died)) if died.death().owner() == owner);
        assert_eq!(told, poisoned, "{point}");
        number += added;
        assert_eq!(*taken.or_else(LockError::recover).unwrap(), Twins::of(number), "{point}");
    }
}

/// Adds one after a death that it is told of.
fn recover_and_increment(mut scene: Scene) {
    let mutex = open(&mut scene);
    let Err(LockError::OwnerDied(died)) = patiently(&mutex) else { panic!("nobody was told") };
    add(&mut died.recover());
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "crash points are in debug builds only")]
fn whoever_dies_recovering_passes_the_news_on() {
    for point in ["value.taken", "value.poisoned", "value.recovered", "value.written"] {
        let board = Board::create(arena().unwrap(), 1);
        let mutex = Mutex::create(Twins::of(1)).unwrap();
        let first = Child::start(arena().unwrap(), "hold_changed", &[&board, &name(&mutex)]);
        board.wait(0, |held| held == 1);
        assert_eq!(first.finish_killed(), KILLED);
        let second = Child::start_doomed(arena().unwrap(), "recover_and_increment", point, 1, &[&name(&mutex)]);
        let owner = second.owner();
        assert_eq!(second.finish(), KILLED, "{point}");
        let Err(LockError::OwnerDied(died)) = patiently(&mutex) else { panic!("{point}: nobody was told") };
        assert_eq!((died.death().owner(), *died.recover()), (owner, Twins::of(1)), "{point}");
    }
}

/// Adds one again and again, and says how often on the board.
fn increment_for_ever(mut scene: Scene) {
    let board = scene.board();
    let mutex = open(&mut scene);
    let word: usize = scene.argument();
    loop {
        add(&mut patiently(&mutex).or_else(LockError::recover).unwrap());
        board.add(word, 1);
    }
}

#[test]
fn no_change_is_lost_whenever_processes_are_killed() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let board = Board::create(arena().unwrap(), 4);
    let mutex = Mutex::create(Twins::of(0)).unwrap();
    let start = |word: usize| Child::start(arena().unwrap(), "increment_for_ever", &[&board, &name(&mutex), &word]);
    let mut children: Vec<_> = (0..4).map(start).collect();
    let kills = rounds(40);
    for _ in 0..kills {
        let victim = random.below(4) as usize;
        let enough = board.get(victim) + random.below(20);
        // It is at work, at a random place.
        board.wait(victim, |count| count >= enough);
        let killed = std::mem::replace(&mut children[victim], start(victim));
        assert_eq!(killed.finish_killed(), KILLED);
    }
    children.into_iter().for_each(|child| assert_eq!(child.finish_killed(), KILLED));
    let counted: u64 = (0..4).map(|word| board.get(word)).sum();
    let value = *patiently(&mutex).or_else(LockError::recover).unwrap();
    assert_eq!(value, Twins::of(value.one));
    // Each of the dead may have made one change that it did not get to write on the board.
    assert!((counted..=counted + kills + 4).contains(&value.one), "{} changes, {counted} counted", value.one);
}
