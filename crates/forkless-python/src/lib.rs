//! The extension module `forkless._forkless`.
use pyo3::prelude::*;

/// The extension module.
#[pymodule]
fn _forkless(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
