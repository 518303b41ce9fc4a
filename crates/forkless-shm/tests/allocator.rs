//! The allocator against a naive model: blocks never overlap, keep their contents, and all come back.
#![allow(clippy::unwrap_used)] // in the model, too, unwrapping is how a test fails

mod kinds;

use std::collections::HashMap;
use std::sync::OnceLock;

use forkless_shm::block::PLAIN;
use forkless_shm::{Arena, Error, Handle, Lease};
use forkless_testing::Random;
use kinds::{KINDS, WRAPPER, wrap};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    /// A block that owns another lease on one of those there are.
    Wrap(usize),
    Duplicate(usize),
    /// By the handle of one there is, or was.
    Open(usize),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Around the borders of size classes, and in between.
    let size = prop_oneof![
        (4u32..18, -80i32..80).prop_map(|(class, around)| (1usize << class).saturating_add_signed(around as isize)),
        0usize..300_000,
    ];
    let step = prop_oneof![
        4 => size.prop_map(Step::Allocate),
        1 => any::<usize>().prop_map(Step::Wrap),
        1 => any::<usize>().prop_map(Step::Duplicate),
        2 => any::<usize>().prop_map(Step::Open),
        4 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..60)
}

/// One arena for all cases: what one leaves behind is the next one's free memory.
fn arena() -> &'static Arena {
    static ARENA: OnceLock<&'static Arena> = OnceLock::new();
    ARENA.get_or_init(|| Arena::create(KINDS).unwrap())
}

/// What a lease is on: nothing, if a wrapper.
type Content = Option<(u64, usize)>;

/// The naive model: leases with what their blocks hold, and how often each handle is held.
#[derive(Default)]
struct Model {
    held: Vec<(Lease, Handle, Content)>,
    counts: HashMap<Handle, usize>,
    /// What wrappers hold.
    inside: HashMap<Handle, Handle>,
    handles: Vec<(Handle, u8, Content)>,
    seed: u64,
}

impl Model {
    fn add(&mut self, lease: Lease, kind: u8, content: Content) {
        let handle = lease.handle().unwrap();
        *self.counts.entry(handle).or_default() += 1;
        self.handles.push((handle, kind, content));
        self.held.push((lease, handle, content));
    }

    fn pick(&self, index: usize) -> Option<usize> {
        index.checked_rem(self.held.len())
    }

    /// One hold less; what it held goes with the last.
    fn let_go(&mut self, handle: Handle) {
        let count = self.counts.get_mut(&handle).unwrap();
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&handle);
            if let Some(inner) = self.inside.remove(&handle) {
                self.let_go(inner);
            }
        }
    }

    fn step(&mut self, step: Step) {
        let arena = arena();
        match step {
            Step::Allocate(size) => {
                let lease = arena.allocate(size, PLAIN).unwrap();
                assert!(lease.block().capacity() >= size);
                self.seed += 1;
                assert!(arena.map().write(lease.block().payload(), &Random::new(self.seed).bytes(size)));
                self.add(lease, PLAIN, Some((self.seed, size)));
            }
            Step::Wrap(index) => {
                let Some(index) = self.pick(index) else { return };
                let (lease, inner, _) = &self.held[index];
                let inner = *inner;
                let wrapper = wrap(arena, lease.duplicate().unwrap());
                *self.counts.get_mut(&inner).unwrap() += 1;
                self.inside.insert(wrapper.handle().unwrap(), inner);
                self.add(wrapper, WRAPPER, None);
            }
            Step::Duplicate(index) => {
                let Some(index) = self.pick(index) else { return };
                let (lease, _, content) = &self.held[index];
                let (lease, content) = (lease.duplicate().unwrap(), *content);
                self.add(lease, if content.is_some() { PLAIN } else { WRAPPER }, content);
            }
            Step::Open(index) => {
                let Some(index) = index.checked_rem(self.handles.len()) else { return };
                let (handle, kind, content) = self.handles[index];
                match arena.open(handle, kind) {
                    Ok(lease) => {
                        assert!(self.counts.contains_key(&handle), "opened what nobody holds");
                        self.add(lease, kind, content);
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Stale(_)), "{error}");
                        assert!(!self.counts.contains_key(&handle), "{error}, but somebody holds it");
                    }
                }
                assert!(matches!(arena.open(handle, 77), Err(Error::Stale(_))), "no such kind");
            }
            Step::Drop(index) => {
                let Some(index) = self.pick(index) else { return };
                let (lease, handle, _) = self.held.swap_remove(index);
                drop(lease);
                self.let_go(handle);
            }
        }
    }

    fn check(&self) {
        let mut ranges: Vec<_> =
            self.counts.keys().map(|handle| arena().block(handle.offset as usize).unwrap()).collect();
        ranges.sort_by_key(|block| block.offset());
        for pair in ranges.windows(2) {
            assert!(pair[0].payload() + pair[0].capacity() <= pair[1].offset(), "blocks overlap");
        }
        for (lease, _, content) in &self.held {
            let Some((seed, size)) = *content else { continue };
            let mut bytes = Vec::new();
            assert!(arena().map().read(lease.block().payload(), size, &mut bytes));
            assert!(bytes == Random::new(seed).bytes(size), "a block of {size} bytes has changed");
        }
        let statistics = arena().statistics().unwrap();
        assert_eq!((statistics.blocks, statistics.leases), (self.counts.len(), self.held.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_overlap_and_all_come_back(steps in steps()) {
        let mut model = Model::default();
        for step in steps {
            model.step(step);
        }
        model.check();
        while !model.held.is_empty() {
            model.step(Step::Drop(model.held.len() / 2));
        }
        model.check();
    }
}
