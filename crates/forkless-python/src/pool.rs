//! What pools and executors are made of: outcomes, the owner's end, the worker's loop.

mod arrivals;
mod call;
mod client;
mod dispatcher;
mod future;
mod gather;
mod lead;
mod worker;

use pyo3::prelude::*;

/// Adds the classes and functions.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<future::BaseFuture>()?;
    module.add_class::<gather::Gather>()?;
    module.add_class::<arrivals::Arrivals>()?;
    module.add_class::<call::Function>()?;
    module.add_class::<dispatcher::Dispatcher>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<worker::Worker>()?;
    Ok(())
}
