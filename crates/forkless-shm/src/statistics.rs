//! What is in the heap, counted block by block: for tests that nothing leaks, and for diagnosis.
//!
//! Blocks are never split or merged, so they lie one behind the other, each as long as its header says. The gaps in
//! front of page-aligned blocks were never written and read as zero.

use std::collections::HashMap;

use forkless_sys::memory::PAGE;

use crate::Error;
use crate::arena::Arena;
use crate::block::{LEASE, State, UNIT};
use crate::layout::{HEAP, SLOTS, SLOTS_AT, header, slot};
use crate::txn::Transaction;

/// The heap at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Blocks that are kept alive, lease records not counted.
    pub blocks: usize,
    /// Of those, blocks that their last holder is taking apart, or was when it died.
    pub dying: usize,
    /// Leases that processes hold. Channels and parcels hold blocks too, without a record.
    pub leases: usize,
    /// Blocks on the free lists.
    pub free: usize,
    /// Bytes of pages that free blocks keep.
    pub warm: usize,
    /// Bytes of the heap that have ever been allocated; the rest is untouched and costs nothing.
    pub bytes_used: usize,
}

impl Arena {
    /// Counts what is in the heap and checks that all of it fits together. Under the allocator's lock, and it visits
    /// every block there has ever been: not for busy moments.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the heap or one of its lists is damaged; [`Error::NoSlot`] if this process cannot join.
    pub fn statistics(&'static self) -> Result<Statistics, Error> {
        let transaction = Transaction::begin(self)?;
        let mut statistics = Statistics::default();
        let mut leases_on = HashMap::new();
        let mut at = HEAP;
        let mut last_end = HEAP;
        let fresh = transaction.get(header::FRESH)? as usize;
        while at < fresh {
            if transaction.get(at)? == 0 {
                at += UNIT;
                if at - last_end > PAGE {
                    // Going on would also touch, and so allocate, memory that is not used.
                    return Err(Error::Corrupt("a gap in the heap"));
                }
                continue;
            }
            let block = self.block(at)?;
            match transaction.state_of(block)? {
                State::Free => {
                    statistics.free += 1;
                    statistics.warm += transaction.touched(block)? as usize;
                }
                _ if transaction.kind_of(block)? == LEASE => statistics.leases += 1,
                state => {
                    statistics.blocks += 1;
                    statistics.dying += usize::from(state == State::Dying);
                    leases_on.insert(at, transaction.get(at + 8)?);
                }
            }
            at += block.size();
            last_end = at;
        }
        statistics.bytes_used = at - HEAP;
        if at != fresh {
            return Err(Error::Corrupt("the end of the heap"));
        }
        if transaction.get(header::WARM)? != statistics.warm as u64 {
            return Err(Error::Corrupt("how many pages free blocks keep"));
        }
        if transaction.count_free(statistics.free)? != statistics.free {
            return Err(Error::Corrupt("a free block is on no free list"));
        }
        if transaction.count_leases_listed(&mut leases_on, statistics.leases)? != statistics.leases {
            return Err(Error::Corrupt("a lease is on no process's list"));
        }
        Ok(statistics)
    }
}

impl Transaction {
    /// The lengths of all processes' lists of leases. Takes each that has no guard off the number of leases on its
    /// target in `leases_on`. Gives up beyond `most`, since a damaged list may have no end.
    fn count_leases_listed(&self, leases_on: &mut HashMap<usize, u64>, most: usize) -> Result<usize, Error> {
        let mut count = 0;
        let used = self.get(header::SLOTS_USED)? as usize;
        for index in 0..used.min(SLOTS) {
            let mut next = self.record_at(self.get(SLOTS_AT + index * slot::SIZE + slot::LEASES)? as usize)?;
            while let Some(record) = next {
                count += 1;
                if count > most {
                    return Err(Error::Corrupt("a list of leases"));
                }
                let on_target = leases_on.get_mut(&record.target.offset());
                let on_target = on_target.ok_or(Error::Corrupt("a lease on a free block"))?;
                // With a guard, the target may be somebody else's already or still.
                if record.count_at == 0 {
                    *on_target = on_target.checked_sub(1).ok_or(Error::Corrupt("more leases than are counted"))?;
                }
                next = self.record_after(&record)?;
            }
        }
        Ok(count)
    }
}
