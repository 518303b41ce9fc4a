//! The linter, as the command calls it: lists of names in, text and an exit code out.

use std::path::PathBuf;

use forkless_check::{Format, Options, Report};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Adds what the command needs.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(check, module)?)?;
    module.add_function(wrap_pyfunction!(check_explain, module)?)?;
    module.add_function(wrap_pyfunction!(check_list, module)?)?;
    module.add_function(wrap_pyfunction!(check_reference, module)?)?;
    Ok(())
}

/// Checks files and folders; with `text`, that, which is what came through standard input.
#[pyfunction]
#[pyo3(signature = (paths, *, format, colour, select, ignore, exclude, target_version, fix, text))]
#[allow(clippy::too_many_arguments)]
fn check(
    python: Python<'_>,
    paths: Vec<PathBuf>,
    format: &str,
    colour: bool,
    select: Vec<String>,
    ignore: Vec<String>,
    exclude: Vec<String>,
    target_version: Option<String>,
    fix: bool,
    text: Option<Vec<u8>>,
) -> PyResult<(String, Vec<String>, u8)> {
    let wrong = |error: forkless_check::BadOptions| PyValueError::new_err(error.to_string());
    let format = Format::named(format, colour)
        .ok_or_else(|| PyValueError::new_err(format!("no format is called {format:?}")))?;
    let given = Options { select, ignore, exclude, target_version };
    let report: Report = python
        .detach(|| {
            let options = given.or(Options::find(&paths)?);
            match text {
                Some(text) => forkless_check::check_text(&text, None, &options),
                None => forkless_check::check(&paths, &options, fix),
            }
        })
        .map_err(wrong)?;
    let problems = report.problems.iter().map(ToString::to_string).collect();
    Ok((format.write(&report), problems, report.exit_code()))
}

/// The explanation of a code or a hazard, if there is one.
#[pyfunction]
fn check_explain(name: &str) -> Option<String> {
    forkless_check::explain(name)
}

/// One line for each rule.
#[pyfunction]
fn check_list() -> String {
    forkless_check::list()
}

/// The explanations of all rules.
#[pyfunction]
fn check_reference() -> String {
    forkless_check::reference()
}
