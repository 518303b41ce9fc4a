//! `Channel` and `Message`: what queues and pools are made of.

use forkless_ipc::{Claim, Received, Sent};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::OrRaise;
use crate::shared::{Shared, home, leases};
use crate::wait;

/// Bytes from any process to any process, first in first out, committed by one store.
#[pyclass(extends = Shared, frozen, module = "forkless")]
pub(crate) struct Channel {
    pub(crate) channel: forkless_ipc::Channel,
}

/// One received message. Keeps what the message carries alive.
#[pyclass(frozen, module = "forkless")]
pub(crate) struct Message {
    message: forkless_ipc::Message,
}

#[pymethods]
impl Message {
    /// What the sender said it is.
    #[getter]
    fn tag(&self) -> u64 {
        self.message.tag
    }

    /// Its bytes.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let length = self.message.length().or_raise(py)?;
        PyBytes::new_with(py, length, |bytes| self.message.copy_to(bytes).or_raise(py))
    }
}

impl Channel {
    fn parts(channel: forkless_ipc::Channel) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { channel })
    }

    pub(crate) fn wrap(py: Python<'_>, channel: forkless_ipc::Channel) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(channel))?.into_any())
    }

    fn send_bytes(
        &self,
        py: Python<'_>,
        tag: u64,
        bytes: &[u8],
        handles: &[Bound<'_, Shared>],
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let leases = leases(handles)?;
        let mut outbox = self.channel.pack(tag, bytes, &leases).or_raise(py)?;
        // First without releasing the interpreter: most sends never wait.
        if outbox.send_within(std::time::Duration::ZERO).or_raise(py)? == Sent::Sent {
            return Ok(true);
        }
        let deadline = wait::deadline(block, timeout)?;
        if deadline.passed() {
            return Ok(false);
        }
        let sent = wait::until(py, deadline, |bound| {
            Ok::<_, forkless_shm::Error>((outbox.send_within(bound)? == Sent::Sent).then_some(()))
        })?;
        Ok(sent.is_some())
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (maxsize = 0, max_bytes = 0))]
    fn new(py: Python<'_>, maxsize: i64, max_bytes: u64) -> PyResult<PyClassInitializer<Self>> {
        // As in the standard library, a negative size means no limit.
        let max_size = u32::try_from(maxsize.max(0))
            .ok()
            .filter(|size| *size <= i32::MAX as u32)
            .ok_or_else(|| PyOverflowError::new_err("maxsize is too large (at most 2147483647)"))?;
        Ok(Self::parts(forkless_ipc::Channel::create_limited(home(py)?, max_size, max_bytes).or_raise(py)?))
    }

    /// Sends a message and what it refers to.
    ///
    /// Returns:
    ///     False when the channel was full for `timeout` seconds. True: the message is in shared memory and survives
    ///     its sender.
    #[pyo3(signature = (payload, handles = Vec::new(), *, tag = 0, block = true, timeout = None))]
    fn send(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        handles: Vec<Bound<'_, Shared>>,
        tag: u64,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        if let Ok(bytes) = payload.cast::<PyBytes>() {
            return self.send_bytes(py, tag, bytes.as_bytes(), &handles, block, timeout);
        }
        let buffer = PyBuffer::<u8>::get(payload)?;
        // The bytes of a mutable buffer may change while we wait for room: a copy is what was sent.
        let bytes = buffer.to_vec(py)?;
        self.send_bytes(py, tag, &bytes, &handles, block, timeout)
    }

    /// The next message, or None when there is none for `timeout` seconds.
    #[pyo3(signature = (*, block = true, timeout = None, claim = false, child_events = None))]
    fn receive(
        &self,
        py: Python<'_>,
        block: bool,
        timeout: Option<f64>,
        claim: bool,
        child_events: Option<u32>,
    ) -> PyResult<Option<Message>> {
        let claim = if claim { Claim::Tag } else { Claim::Nothing };
        let arena = self.channel.lease().arena();
        let me = arena.me().or_raise(py)?;
        let beside = child_events.and_then(|seen| Some((arena.child_events(me)?, seen)));
        let changed = || beside.is_some_and(|(word, seen)| word.load(forkless_sys::atomic::Ordering::Acquire) != seen);
        let first = self.channel.receive_within(std::time::Duration::ZERO, claim, None).or_raise(py)?;
        if let Received::Message(message) = first {
            return Ok(Some(Message { message }));
        }
        let deadline = wait::deadline(block, timeout)?;
        if deadline.passed() || changed() {
            return Ok(None);
        }
        let message = wait::until(py, deadline, |bound| {
            Ok::<_, forkless_shm::Error>(match self.channel.receive_within(bound, claim, beside)? {
                Received::Message(message) => Some(Some(message)),
                Received::Closed => Some(None),
                Received::Empty | Received::Interrupted => changed().then_some(None),
            })
        })?;
        Ok(message.flatten().map(|message| Message { message }))
    }

    /// Messages waiting, exact at one moment.
    fn qsize(&self, py: Python<'_>) -> PyResult<u32> {
        self.channel.len().or_raise(py)
    }

    /// The most messages that may wait, 0 for no limit.
    #[getter]
    fn maxsize(&self, py: Python<'_>) -> PyResult<u32> {
        self.channel.max_size().or_raise(py)
    }
}
