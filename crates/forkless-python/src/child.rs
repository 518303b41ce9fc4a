//! Starting processes, being started, and the template.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forkless_ipc::{Content, Memory};
use forkless_process::pool::Tag;
use forkless_process::{Client, Error, Fork, Method, Order, Pending, Program, Runtime, TREE_VARIABLE, template};
use forkless_shm::{Arena, Handle, Waited};
use forkless_sys::process::ExitStatus;
use forkless_sys::time::Deadline;
use forkless_sys::{Errno, IntoRawFd, RawFd};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::channel::{all, bytes_of, sources};
use crate::errors::OrRaise;
use crate::memory::{view_of_bytes, views_of_extents};
use crate::shared::{Shared, home, leases, object, open_shared};
use crate::wait;

/// How a template is started: `executable *arguments -c CODE *preload`, where CODE begins with `prelude`.
///
/// Args:
///     preload: Modules that the template imports before it serves.
///     own: Whether a child must not use the template that it came from.
#[pyclass(frozen, module = "forkless", name = "Program")]
pub(crate) struct PyProgram {
    pub(crate) program: Program,
}

#[pymethods]
impl PyProgram {
    #[new]
    #[pyo3(signature = (executable, arguments, prelude, *, preload, own))]
    fn new(executable: String, arguments: Vec<String>, prelude: String, preload: Vec<String>, own: bool) -> Self {
        Self { program: Program { executable, arguments, prelude, preload, own } }
    }
}

/// Has the templates of this process end once their children have: new ones are started when they are needed.
#[pyfunction]
pub(crate) fn retire_templates() {
    Client::retire_all();
}

/// Reaps templates of this process that have ended.
#[pyfunction]
pub(crate) fn bury_templates(py: Python<'_>) -> PyResult<()> {
    Arena::home().map_or(Ok(()), |arena| Client::bury_all(arena).or_raise(py))
}

/// A child that was asked for. Dropped before `wait` has returned it, it never runs its job, or is killed.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Coming {
    pending: Mutex<Option<Pending>>,
}

#[pymethods]
impl Coming {
    /// The child, once it is there.
    ///
    /// Raises:
    ///     ProcessError: The template or the system refuses.
    fn wait(&self, py: Python<'_>) -> PyResult<Child> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut pending) = pending else { return Err(PyValueError::new_err("this child has been waited for")) };
        let child = wait::until(py, Deadline::NEVER, |bound| pending.wait_within(bound))?;
        child.map(|child| Child { child }).ok_or_else(|| PyValueError::new_err("a wait without end has ended"))
    }
}

/// A process of this tree, seen from the process that asked for it.
#[pyclass(frozen, weakref, module = "forkless")]
pub(crate) struct Child {
    child: forkless_process::Child,
}

#[pymethods]
impl Child {
    /// Asks a template with this program (started on the first call) for a child, which `Coming.wait` then returns.
    ///
    /// Raises:
    ///     ProcessError: The template or the system refuses.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "what a child needs")]
    #[pyo3(signature = (program, method, payload, handles, *, buffers = Vec::new(), name, surroundings))]
    fn ask(
        py: Python<'_>,
        program: &PyProgram,
        method: &str,
        payload: &Bound<'_, PyAny>,
        handles: Vec<Bound<'_, Shared>>,
        buffers: Vec<Bound<'_, PyAny>>,
        name: &str,
        surroundings: &Bound<'_, Shared>,
    ) -> PyResult<Coming> {
        let method = Method::from_name(method)
            .ok_or_else(|| PyValueError::new_err(format!("unknown start method {method:?}")))?;
        let arena = home(py)?;
        let program = &program.program;
        let (parts, buffers) = (sources(payload)?, all(&buffers)?);
        let (parts, extents, objects) = (bytes_of(&parts), bytes_of(&buffers), leases(&handles)?);
        let job = Content { parts: &parts, extents: &extents, handles: &objects };
        let surroundings = Some(object(surroundings)?.lease());
        let order = Order { method, name, job, surroundings };
        let pending = py.detach(|| Pending::ask_for(arena, program, &order)).or_raise(py)?;
        publish(py)?;
        Ok(Coming { pending: Mutex::new(Some(pending)) })
    }

    /// The process id.
    #[getter]
    fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// A descriptor that becomes readable when the child has ended; owned by this object.
    #[getter]
    fn sentinel(&self) -> RawFd {
        self.child.sentinel()
    }

    /// The exit code (negative: the signal), or None while it runs.
    ///
    /// Raises:
    ///     ProcessError: It ended and nobody knows how.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        Ok(py.detach(|| self.child.poll()).or_raise(py)?.map(ExitStatus::code))
    }

    /// Waits for its end up to `timeout` seconds (None: as long as it takes); the exit code, or None if it still runs.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let deadline = wait::deadline(true, timeout)?;
        let _note = wait::note(py, Waited::Process, self.child.pid());
        let status = wait::until(py, deadline, |bound| {
            if let Some(status) = self.child.poll_within(bound)? {
                return Ok::<_, Error>(Some(status));
            }
            if !self.child.wait_within(bound) {
                return self.child.poll_within(Duration::ZERO);
            }
            Ok(None)
        })?;
        Ok(status.map(ExitStatus::code))
    }

    /// Whether it has become another program, by `exec`: it runs, and will not come back to us. True for a moment, too, while it
    /// is about to end.
    fn has_left(&self) -> bool {
        self.child.has_left()
    }

    /// Sends a signal: never to another process that got the same number. Does nothing if it has ended.
    ///
    /// With `grace`, it is killed that many seconds later, if it has not ended then.
    #[pyo3(signature = (number, grace = None))]
    fn signal(&self, py: Python<'_>, number: i32, grace: Option<f64>) -> PyResult<()> {
        let Some(seconds) = grace else { return self.child.signal(number).or_raise(py) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(grace) => self.child.signal_then_kill(number, grace).or_raise(py),
            Err(_) => {
                Err(PyValueError::new_err(format!("grace must be a number of seconds, 0 or more, not {seconds}")))
            }
        }
    }

    /// After its death: the tag of the message it had claimed and taken, None if none.
    fn claimed(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.child.claimed())
    }

    /// The id of the task that it has claimed as a worker of a pool, and perhaps not begun with; None if none.
    fn claiming(&self) -> Option<u64> {
        self.child.claiming().map(|tag| Tag::unpack(tag).id)
    }

    /// After its death by a fatal signal: the Python stack that it wrote down, None if it did not.
    fn last_words(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.child.last_words())
    }

    /// After its end: the most memory that was resident in it, in bytes; None while it runs, or if nobody knows.
    fn peak_memory(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.child.peak_memory())
    }

    /// Gives its slot back.
    ///
    /// Raises:
    ///     ValueError: It still runs.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.child.close().or_raise(py)
    }
}

/// Tells programs that this process will start by other means where the tree is.
pub(crate) fn publish(py: Python<'_>) -> PyResult<()> {
    Client::roots().next().map_or(Ok(()), |client| set_tree(py, client.name()))
}

fn set_tree(py: Python<'_>, name: &str) -> PyResult<()> {
    let environment = py.import("os")?.getattr("environ")?;
    let known = environment.call_method1("get", (TREE_VARIABLE,))?;
    if !known.eq(name)? {
        environment.set_item(TREE_VARIABLE, name)?;
    }
    Ok(())
}

/// Ends this process's template, if it started one, with all children, and waits for it.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    if let Some(arena) = Arena::home() {
        py.detach(|| Client::shutdown(arena, Duration::from_secs(2)));
    }
}

/// What a new child has to do.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Job {
    job: template::Job,
}

#[pymethods]
impl Job {
    /// The bytes that the parent gave, read-only.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        view_of_bytes(py, self.job.parcel())
    }

    /// The buffers that the parent gave, writable: nobody else uses them.
    fn buffers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyMemoryView>>> {
        views_of_extents(py, self.job.parcel(), true)
    }

    /// Says that the job was loaded: the descriptors that came with it are nobody else's any more.
    fn loaded(&self, py: Python<'_>) -> PyResult<()> {
        self.job.loaded().or_raise(py)
    }

    /// Whether this child's standard streams are those that its template had when it learned the surroundings.
    #[getter]
    fn has_streams(&self) -> bool {
        self.job.has_streams
    }

    /// How it was started.
    #[getter]
    fn method(&self) -> &'static str {
        self.job.method.name()
    }
}

/// The template's life. Returns in each child that it forks; in the template itself never.
///
/// Args:
///     learn: Gets a `SharedBytes` with what children to come take over from the main process.
///     rehearse: Called in a child that will wait for a job.
///     preload: Called once, before any fork; returns the names of modules that have left threads, and of those that have
///         opened a device which forked processes cannot use.
#[pyfunction]
pub(crate) fn serve(
    py: Python<'_>,
    learn: Bound<'_, PyAny>,
    rehearse: Bound<'_, PyAny>,
    preload: Bound<'_, PyAny>,
) -> PyResult<Job> {
    // os.fork runs the interpreter's own before and after; the template has one thread, so the interpreter is held.
    let mut interpreter =
        Interpreter { fork: py.import("os")?.getattr("fork")?, learn, rehearse, preload, blamed: Blamed::default() };
    Ok(Job { job: template::serve(&mut interpreter).or_raise(py)? })
}

struct Interpreter<'py> {
    fork: Bound<'py, PyAny>,
    learn: Bound<'py, PyAny>,
    rehearse: Bound<'py, PyAny>,
    preload: Bound<'py, PyAny>,
    blamed: Blamed,
}

/// Modules because of which the template should not fork, by name: those that have left threads, and those that have
/// opened a device.
type Blamed = (Vec<String>, Vec<String>);

impl Interpreter<'_> {
    /// A template goes on whatever it could not learn; its standard error tells of it.
    fn tell(&self, result: PyResult<Bound<'_, PyAny>>) {
        if let Err(error) = result {
            error.print(self.fork.py());
        }
    }
}

impl Runtime for Interpreter<'_> {
    fn ready(&mut self, name: &str) {
        let py = self.fork.py();
        // Without the variable, strangers do not find the tree: a pity, no reason to end.
        let _ = set_tree(py, name).and_then(|()| forget(py, "FORKLESS_TEMPLATE"));
        match self.preload.call0().and_then(|blamed| blamed.extract::<Blamed>()) {
            Ok(blamed) => self.blamed = blamed,
            Err(error) => error.print(py),
        }
    }

    fn suspects(&mut self) -> String {
        self.blamed.0.join(", ")
    }

    fn openers(&mut self) -> String {
        self.blamed.1.join(", ")
    }

    fn fork(&mut self) -> Result<Fork, Errno> {
        match self.fork.call0().and_then(|pid| pid.extract::<u32>()) {
            Ok(0) => Ok(Fork::Child),
            Ok(pid) => Ok(Fork::Parent(pid)),
            Err(error) => Err(errno_of(self.fork.py(), &error)),
        }
    }

    fn learn(&mut self, Handle { arena, offset, generation }: Handle) {
        let py = self.learn.py();
        // Gone: there are others by now, and news of them is on the way.
        if let Ok(surroundings) = open_shared(py, Memory::KIND, arena, offset, generation, None) {
            self.tell(self.learn.call1((surroundings,)));
        }
    }

    fn rehearse(&mut self) {
        self.tell(self.rehearse.call0());
    }
}

fn errno_of(py: Python<'_>, error: &PyErr) -> Errno {
    let number = error.value(py).getattr("errno").and_then(|number| number.extract());
    Errno::from_raw_os_error(number.unwrap_or(Errno::AGAIN.raw_os_error()))
}

fn forget(py: Python<'_>, variable: &str) -> PyResult<()> {
    py.import("os")?.getattr("environ")?.call_method1("pop", (variable, py.None())).map(|_| ())
}

/// A descriptor to which a signal handler can write what the parent gets from `Child.last_words`. The caller's from now on.
#[pyfunction]
pub(crate) fn open_last_words(py: Python<'_>) -> PyResult<RawFd> {
    Ok(home(py)?.open_last_words().or_raise(py)?.into_raw_fd())
}

/// The start of a spawned child: joins the arena it was given and returns its job.
#[pyfunction]
pub(crate) fn adopt(py: Python<'_>) -> PyResult<Job> {
    let job = template::adopt().or_raise(py)?;
    forget(py, "FORKLESS_SPAWNED")?;
    Ok(Job { job })
}
