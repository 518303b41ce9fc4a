//! What `forkless doctor` is made of: one look at a tree of processes, and what is wrong with it.

use forkless_doctor::facts::{Facts, Frame, Process, Thread, Wait};
use forkless_doctor::{Finding, Refused, examine, look};
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Looks at a process and all that descend from it, but for those of `leave_out`, and says what is wrong.
///
/// Args:
///     root: The process.
///     leave_out: Not to be mentioned, with all that descend from it, unless it is the root.
///
/// Returns:
///     What the command prints as JSON, as docs/doctor.md describes it.
///
/// Raises:
///     ProcessLookupError: There is no such process.
///     PermissionError: It belongs to another user.
#[pyfunction]
#[pyo3(signature = (root, leave_out = None))]
pub(crate) fn diagnose(py: Python<'_>, root: u32, leave_out: Option<u32>) -> PyResult<Bound<'_, PyDict>> {
    let (facts, findings) = py.detach(|| examine(root, leave_out)).map_err(|error| refused(&error))?;
    let report = PyDict::new(py);
    report.set_item("root", facts.root)?;
    report.set_item("processes", each(&facts.processes, |it| process(py, &facts, it))?)?;
    report.set_item("findings", each(&findings, |it| finding(py, it))?)?;
    report.set_item("unknown", &facts.unknown)?;
    Ok(report)
}

/// A number that is the same as before if no process of the tree has done anything in between. The calling thread does not
/// count, unless it is the main one.
///
/// Raises:
///     ProcessLookupError: There is no such process.
///     PermissionError: It belongs to another user.
#[pyfunction]
pub(crate) fn pulse(py: Python<'_>, root: u32) -> PyResult<u64> {
    let facts = py.detach(|| look(root, None)).map_err(|error| refused(&error))?;
    Ok(forkless_doctor::pulse(&facts))
}

fn refused(error: &Refused) -> PyErr {
    match error {
        Refused::Gone(_) => PyProcessLookupError::new_err(error.to_string()),
        Refused::Denied(..) => PyPermissionError::new_err(error.to_string()),
    }
}

fn each<'py, T>(
    items: &[T],
    convert: impl Fn(&T) -> PyResult<Bound<'py, PyDict>>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    items.iter().map(convert).collect()
}

fn process<'py>(py: Python<'py>, facts: &Facts, process: &Process) -> PyResult<Bound<'py, PyDict>> {
    let main = process.threads.first();
    let item = PyDict::new(py);
    item.set_item("pid", process.pid)?;
    item.set_item("parent", process.parent)?;
    item.set_item("command", &process.command)?;
    item.set_item("state", state(process))?;
    item.set_item("role", process.role)?;
    item.set_item("name", &process.name)?;
    item.set_item("ended", process.ended.map(|status| status.to_string()))?;
    item.set_item("unique_bytes", process.unique)?;
    item.set_item("waiting", waiting(py, facts, main.and_then(|thread| thread.wait))?)?;
    item.set_item("stack", each(main.map_or(&[][..], |thread| &thread.stack), |it| frame(py, it))?)?;
    // Those that run no Python code are the business of libraries.
    let others: Vec<&Thread> = process.threads.iter().skip(1).filter(|it| it.is_python).collect();
    item.set_item("threads", each(&others, |it| thread(py, facts, it))?)?;
    Ok(item)
}

fn thread<'py>(py: Python<'py>, facts: &Facts, thread: &Thread) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("tid", thread.tid)?;
    item.set_item("waiting", waiting(py, facts, thread.wait)?)?;
    item.set_item("stack", each(&thread.stack, |it| frame(py, it))?)?;
    Ok(item)
}

fn waiting<'py>(py: Python<'py>, facts: &Facts, wait: Option<Wait>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(wait) = wait else { return Ok(None) };
    let object = facts.object(wait);
    let item = PyDict::new(py);
    item.set_item("kind", wait.kind.name())?;
    item.set_item("object", object.map(|object| &object.name))?;
    item.set_item("since_s", wait.since.map(|since| since.as_secs_f64()))?;
    let owner = object.and_then(|object| object.holders.first());
    item.set_item("owner_pid", owner.map(|owner| owner.0).or(wait.process))?;
    item.set_item("owner_tid", owner.and_then(|owner| owner.1))?;
    item.set_item("pending", object.and_then(|object| object.count))?;
    item.set_item("timed", wait.timed)?;
    Ok(Some(item))
}

fn frame<'py>(py: Python<'py>, frame: &Frame) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("function", &frame.function)?;
    item.set_item("file", &frame.file)?;
    item.set_item("line", frame.line)?;
    Ok(item)
}

fn finding<'py>(py: Python<'py>, finding: &Finding) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("hazard", finding.hazard)?;
    item.set_item("pids", &finding.pids)?;
    item.set_item("summary", &finding.summary)?;
    item.set_item("evidence", &finding.evidence)?;
    item.set_item("advice", finding.advice)?;
    Ok(item)
}

fn state(process: &Process) -> &'static str {
    match process.state {
        'R' => "running",
        'T' => "stopped",
        't' => "traced",
        'Z' | 'X' => "zombie",
        'D' => "waiting for a disk",
        _ => "sleeping",
    }
}
