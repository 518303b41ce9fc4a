//! Standbys: each is claimed once or withdrawn, gets its job whole, and is nobody's once its slot is another's.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use forkless_models::{Process, World, at_every_step, clean, with_stack};
use forkless_shm::{Arena, Handle, Owner, Role};
use forkless_sys::atomic::Ordering;
use forkless_sys::time::SLICE;

/// Where the list of standbys begins; of a slot: the words between its state and its leases, and its job and template.
const LIST: (usize, usize) = (1024, 16);
const FIELDS: (usize, usize) = (64, 48);
const JOB: (usize, usize) = (208, 24);

const THE_JOB: Handle = Handle { arena: 3, offset: 64, generation: 7 };

/// Children, and a standby that is on the list.
fn set_up<const CHILDREN: usize>() -> (World, &'static Arena, [&'static Arena; CHILDREN]) {
    let mut world = World::new(0);
    let children = [(); CHILDREN].map(|()| world.add(Role::Child));
    let standby = add_standby(&mut world);
    standby.offer_standby(template()).unwrap();
    world.watch_range(LIST.0, LIST.1);
    (world, standby, children)
}

fn add_standby(world: &mut World) -> &'static Arena {
    let standby = world.add(Role::Standby);
    let slot = standby.liveness(me(standby)).unwrap().offset();
    for (at, length) in [FIELDS, JOB] {
        world.watch_range(slot + at, length);
    }
    // These are words, not double words.
    standby.end_word(me(standby)).unwrap().load(Ordering::Relaxed);
    for at in [16, 20] {
        standby.map().u32(slot + JOB.0 + at).unwrap().load(Ordering::Relaxed);
    }
    standby
}

/// Whose standbys they are. Nobody asks whether it lives.
fn template() -> Owner {
    Owner::from_word(0x1_0001).unwrap()
}

fn me(view: &'static Arena) -> Owner {
    view.me().unwrap()
}

/// What a client does; whether it got the standby.
fn start(client: &'static Arena) -> bool {
    let standby = client.claim_standby(template(), "child").unwrap();
    standby.inspect(|standby| client.assign(*standby, THE_JOB).unwrap()).is_some()
}

fn wait_for_job(standby: &'static Arena) {
    let job = loop {
        if let Some(job) = standby.assignment_within(me(standby), SLICE).unwrap() {
            break job;
        }
    };
    assert_eq!(job, THE_JOB);
}

#[test]
fn one_of_two_gets_it() {
    let (world, standby, clients) = set_up::<2>();
    world.check(move || {
        let waiting = Process::start(standby, move || wait_for_job(standby));
        let got =
            clients.map(|client| Process::start(client, move || start(client))).map(|client| client.join().unwrap());
        waiting.join().unwrap();
        let parent = standby.process(me(standby)).unwrap().parent;
        let winners: Vec<_> = clients.into_iter().zip(got).filter(|(_, got)| *got).collect();
        assert!(winners.len() == 1 && parent == Some(me(winners[0].0)));
    });
}

#[test]
fn it_is_claimed_or_withdrawn() {
    let (world, standby, [client]) = set_up::<1>();
    world.check(move || {
        let waiting = Process::start(standby, move || {
            let withdrawn = standby.withdraw_standby(me(standby)).unwrap();
            if !withdrawn {
                wait_for_job(standby);
            }
            withdrawn
        });
        let got = Process::start(client, move || start(client)).join().unwrap();
        assert_ne!(waiting.join().unwrap(), got);
    });
}

#[test]
fn two_are_on_the_list_and_each_is_claimed() {
    let mut world = World::new(0);
    let standbys = [(); 2].map(|()| add_standby(&mut world));
    world.watch_range(LIST.0, LIST.1);
    let arena = world.arena;
    world.check(move || {
        let _ = standbys
            .map(|standby| Process::start(standby, move || standby.offer_standby(template()).unwrap()))
            .map(Process::join);
        with_stack(move || assert!(start(arena) && start(arena) && !start(arena)));
        standbys.into_iter().for_each(wait_for_job);
    });
}

#[test]
fn a_client_that_dies_has_claimed_it_or_not() {
    at_every_step(|doom| {
        let (world, standby, [client]) = set_up::<1>();
        let arena = world.arena;
        world.check(move || {
            Process::start_doomed(client, doom, move || start(client)).join();
            let parent = standby.process(me(standby)).unwrap().parent;
            let got = with_stack(move || start(arena));
            assert_eq!(parent, (!got).then_some(me(client)));
        });
    });
}

#[test]
fn a_dead_one_is_a_child_that_ended_or_nobodys() {
    let (world, standby, [client]) = set_up::<1>();
    let arena = world.arena;
    world.check(move || {
        let claimer = Process::start(client, move || client.claim_standby(template(), "child").unwrap());
        let new = with_stack(move || {
            clean(arena, [standby]);
            arena.reserve_slot(Role::Standby, "new").unwrap()
        });
        match claimer.join().unwrap() {
            Some(_) => assert!(arena.process(me(standby)).is_some() && arena.end(me(standby)).is_some()),
            None => assert_eq!(arena.process(me(standby)), None),
        }
        let new = arena.process(new).unwrap();
        assert_eq!((new.role, new.parent, new.name.as_str()), (Role::Standby, None, "new"));
    });
}
