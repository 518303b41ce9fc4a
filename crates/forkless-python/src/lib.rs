//! The extension module `forkless._forkless`: converts arguments and errors, releases the interpreter around every wait
//! and runs signal handlers between its steps. No policy lives here.
//!
//! No Python object is created or dropped while a lock of ours is held: results leave the core as plain Rust values
//! first. That is what makes every operation safe to call from `__del__`, weakref callbacks and signal handlers.

mod barrier;
mod bell;
mod buffer;
mod channel;
mod check;
mod child;
mod columns;
mod condition;
mod deposit;
mod doctor;
mod errors;
mod event;
mod immortal;
mod item;
mod lock;
mod mapped;
mod memory;
mod pool;
mod queue;
mod recovery;
mod report;
mod rlock;
mod segment;
mod semaphore;
mod shared;
mod tree;
mod wait;

use pyo3::prelude::*;

/// The Rust core of forkless.
#[pymodule]
fn _forkless(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<shared::Shared>()?;
    module.add_class::<lock::Lock>()?;
    module.add_class::<rlock::RLock>()?;
    module.add_class::<semaphore::Semaphore>()?;
    module.add_class::<semaphore::BoundedSemaphore>()?;
    module.add_class::<event::Event>()?;
    module.add_class::<condition::Condition>()?;
    module.add_class::<barrier::Barrier>()?;
    module.add_class::<memory::SharedBytes>()?;
    module.add_class::<channel::Channel>()?;
    module.add_class::<channel::Message>()?;
    module.add_class::<queue::BaseQueue>()?;
    module.add_class::<bell::Bell>()?;
    module.add_class::<channel::Parcel>()?;
    module.add_class::<buffer::SharedBuffer>()?;
    module.add_function(wrap_pyfunction!(buffer::address_of, module)?)?;
    module.add_function(wrap_pyfunction!(mapped::find_shared, module)?)?;
    module.add_class::<deposit::Deposit>()?;
    module.add_class::<segment::Segment>()?;
    module.add_function(wrap_pyfunction!(segment::open_segment, module)?)?;
    pool::add_to(module)?;
    columns::add_to(module)?;
    check::add_to(module)?;
    module.add_class::<child::Child>()?;
    module.add_class::<child::Coming>()?;
    module.add_class::<child::Job>()?;
    module.add_function(wrap_pyfunction!(shared::open_shared, module)?)?;
    module.add_function(wrap_pyfunction!(shared::tree_name, module)?)?;
    module.add_function(wrap_pyfunction!(shared::join_tree, module)?)?;
    module.add_function(wrap_pyfunction!(shared::take_leases_after_fork, module)?)?;
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("BUFFER_KIND", forkless_ipc::Buffer::KIND)?;
    module.add("HAS_CRASH_POINTS", cfg!(debug_assertions))?;
    module.add_class::<child::PyProgram>()?;
    module.add_function(wrap_pyfunction!(child::retire_templates, module)?)?;
    module.add_function(wrap_pyfunction!(child::bury_templates, module)?)?;
    module.add_function(wrap_pyfunction!(shared::inherited, module)?)?;
    module.add_function(wrap_pyfunction!(child::serve, module)?)?;
    module.add_function(wrap_pyfunction!(child::adopt, module)?)?;
    module.add_function(wrap_pyfunction!(child::open_last_words, module)?)?;
    module.add_function(wrap_pyfunction!(child::shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(tree::child_events, module)?)?;
    module.add_function(wrap_pyfunction!(tree::trim_heap, module)?)?;
    module.add_function(wrap_pyfunction!(tree::thread_count, module)?)?;
    module.add_function(wrap_pyfunction!(tree::attributes, module)?)?;
    module.add_function(wrap_pyfunction!(tree::adopt_attributes, module)?)?;
    module.add_function(wrap_pyfunction!(tree::has_attributes, module)?)?;
    module.add_function(wrap_pyfunction!(tree::accept_interrupts, module)?)?;
    module.add_function(wrap_pyfunction!(tree::ignore_interrupts, module)?)?;
    module.add_function(wrap_pyfunction!(tree::processes, module)?)?;
    module.add_function(wrap_pyfunction!(doctor::diagnose, module)?)?;
    module.add_function(wrap_pyfunction!(doctor::pulse, module)?)?;
    module.add_function(wrap_pyfunction!(report::memory, module)?)?;
    module.add_function(wrap_pyfunction!(report::families, module)?)?;
    module.add_function(wrap_pyfunction!(report::arenas, module)?)?;
    module.add_function(wrap_pyfunction!(tree::set_warm_memory, module)?)?;
    module.add_function(wrap_pyfunction!(tree::trim_memory, module)?)?;
    module.add_function(wrap_pyfunction!(tree::warm_memory, module)?)?;
    module.add_function(wrap_pyfunction!(tree::arm_crash_point, module)?)?;
    module.add_function(wrap_pyfunction!(tree::census, module)?)?;
    module.add_function(wrap_pyfunction!(immortal::immortalise, module)?)?;
    Ok(())
}
