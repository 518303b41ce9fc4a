//! `Channel`, `Message` and `Parcel`: what queues and pools are made of.

use std::time::Duration;

use forkless_ipc::{Claim, Content, Outbox, Received, Sent};
use forkless_shm::Waited;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use crate::buffer::Source;
use crate::errors::OrRaise;
use crate::memory::{view_of_bytes, views_of_extents};
use crate::shared::{Shared, home, leases};
use crate::wait;

/// From here on a copy is made without the interpreter, so that other threads run meanwhile: letting go of it and taking
/// it up again may cost a few milliseconds where threads compete for it.
const LARGE: usize = 1 << 20;

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

impl Message {
    pub(crate) fn inner(&self) -> &forkless_ipc::Message {
        &self.message
    }
}

impl From<forkless_ipc::Message> for Message {
    fn from(message: forkless_ipc::Message) -> Self {
        Self { message }
    }
}

#[pymethods]
impl Message {
    /// What the sender said it is.
    #[getter]
    fn tag(&self) -> u64 {
        self.message.tag
    }

    /// Its bytes: a copy of them if they are few, otherwise a read-only memoryview of them where they arrived.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(parcel) = self.message.parcel() {
            return Ok(view_of_bytes(py, parcel)?.into_any());
        }
        let length = self.message.length().or_raise(py)?;
        Ok(PyBytes::new_with(py, length, |bytes| self.message.copy_to(bytes).or_raise(py))?.into_any())
    }

    /// Its buffers, as memoryviews of them where they arrived. They keep the message's memory, and nobody else has it: who
    /// writes there is alone with it.
    #[pyo3(signature = (writable = false))]
    fn buffers<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Vec<Bound<'py, PyMemoryView>>> {
        self.message.parcel().map_or(Ok(Vec::new()), |parcel| views_of_extents(py, parcel, writable))
    }

    /// The object that it is, in the format with this number.
    fn unpack<'py>(&self, py: Python<'py>, format: u64) -> PyResult<Bound<'py, PyAny>> {
        crate::item::unpack(py, &self.message, format, true)
    }
}

/// A message packed now, to be sent later: it is in shared memory already.
#[pyclass(module = "forkless")]
pub(crate) struct Parcel {
    /// Until it is sent.
    parcel: Option<forkless_ipc::Parcel>,
}

#[pymethods]
impl Parcel {
    #[new]
    #[pyo3(signature = (payload, handles = Vec::new(), *, buffers = Vec::new()))]
    fn new(
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        handles: Vec<Bound<'_, Shared>>,
        buffers: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (arena, parts, buffers) = (home(py)?, sources(payload)?, all(&buffers)?);
        let (parts, extents, leases) = (bytes_of(&parts), bytes_of(&buffers), leases(&handles)?);
        let content = Content { parts: &parts, extents: &extents, handles: &leases };
        let parcel = unless_small(py, &content, || forkless_ipc::Parcel::pack(arena, &content)).or_raise(py)?;
        Ok(Self { parcel: Some(parcel) })
    }
}

/// The pieces of a payload: a list of them, or one.
pub(crate) fn sources(payload: &Bound<'_, PyAny>) -> PyResult<Vec<Source>> {
    match payload.cast::<PyList>() {
        Ok(parts) => parts.iter().map(|part| Source::get(&part)).collect(),
        Err(_) => Ok(vec![Source::get(payload)?]),
    }
}

pub(crate) fn all(buffers: &[Bound<'_, PyAny>]) -> PyResult<Vec<Source>> {
    buffers.iter().map(Source::get).collect()
}

pub(crate) fn bytes_of(sources: &[Source]) -> Vec<&[u8]> {
    sources.iter().map(Source::bytes).collect()
}

/// Packs something, without the interpreter if that takes long.
pub(crate) fn unless_small<T: Send>(py: Python<'_>, content: &Content<'_>, pack: impl FnOnce() -> T + Send) -> T {
    let sizes = content.parts.iter().chain(content.extents).map(|bytes| bytes.len());
    if sizes.fold(0, usize::saturating_add) < LARGE { pack() } else { py.detach(pack) }
}

impl Channel {
    fn parts(channel: forkless_ipc::Channel) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Shared).add_subclass(Self { channel })
    }

    pub(crate) fn wrap(py: Python<'_>, channel: forkless_ipc::Channel) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, Self::parts(channel))?.into_any())
    }

    fn send_content(
        &self,
        py: Python<'_>,
        tag: u64,
        content: &Content<'_>,
        patience: (bool, Option<f64>),
    ) -> PyResult<bool> {
        let mut outbox = unless_small(py, content, || self.channel.pack(tag, content)).or_raise(py)?;
        transmit(py, &mut outbox, patience)
    }

    fn send_parcel(
        &self,
        py: Python<'_>,
        tag: u64,
        parcel: &Bound<'_, Parcel>,
        patience: (bool, Option<f64>),
    ) -> PyResult<bool> {
        let packed = parcel.borrow_mut().parcel.take();
        let packed = packed.ok_or_else(|| PyValueError::new_err("the parcel has been sent, or is being sent"))?;
        let mut outbox = self.channel.forward(tag, packed).or_raise(py)?;
        let sent = transmit(py, &mut outbox, patience);
        if !matches!(sent, Ok(true)) {
            parcel.borrow_mut().parcel = outbox.into_parcel();
        }
        sent
    }
}

fn transmit(py: Python<'_>, outbox: &mut Outbox<'_>, (block, timeout): (bool, Option<f64>)) -> PyResult<bool> {
    // First without releasing the interpreter: most sends never wait.
    if outbox.send_within(Duration::ZERO).or_raise(py)? == Sent::Sent {
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
    /// Args:
    ///     payload: Its bytes; or a list of pieces of them, which are not joined before they are in shared memory; or a
    ///         `Parcel`, which brings handles and buffers of its own.
    ///     handles: The objects in shared memory that it refers to.
    ///     buffers: Contiguous buffers that travel beside the bytes, and are used where they arrive: `Message.buffers`.
    ///
    /// Returns:
    ///     False when the channel was full for `timeout` seconds. True: the message is in shared memory and survives
    ///     its sender.
    #[pyo3(signature = (payload, handles = Vec::new(), *, buffers = Vec::new(), tag = 0, block = true, timeout = None))]
    #[expect(clippy::too_many_arguments, reason = "most of them are options")]
    fn send(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        handles: Vec<Bound<'_, Shared>>,
        buffers: Vec<Bound<'_, PyAny>>,
        tag: u64,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let patience = (block, timeout);
        if let Ok(parcel) = payload.cast::<Parcel>() {
            return self.send_parcel(py, tag, parcel, patience);
        }
        let leases = leases(&handles)?;
        let buffers = all(&buffers)?;
        let extents = bytes_of(&buffers);
        if let Ok(bytes) = payload.cast::<PyBytes>() {
            let content = Content { parts: &[bytes.as_bytes()], extents: &extents, handles: &leases };
            return self.send_content(py, tag, &content, patience);
        }
        let parts = sources(payload)?;
        let mut parts = bytes_of(&parts);
        // Two parts are copied at once, whatever their size. One might be referred to while there is no room, and its
        // bytes may change meanwhile.
        parts.push(&[]);
        self.send_content(py, tag, &Content { parts: &parts, extents: &extents, handles: &leases }, patience)
    }

    /// The next message, or None when there is none for `timeout` seconds.
    #[pyo3(signature = (*, block = true, timeout = None))]
    fn receive(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<Option<Message>> {
        let first = self.channel.receive_within(Duration::ZERO, Claim::Nothing, None).or_raise(py)?;
        if let Received::Message(message) = first {
            return Ok(Some(Message { message }));
        }
        let deadline = wait::deadline(block, timeout)?;
        if deadline.passed() {
            return Ok(None);
        }
        let _note = self.channel.lease().note_wait(Waited::QueueGet);
        let message = wait::until(py, deadline, |bound| {
            Ok::<_, forkless_shm::Error>(match self.channel.receive_within(bound, Claim::Nothing, None)? {
                Received::Message(message) => Some(Some(message)),
                Received::Closed => Some(None),
                Received::Empty | Received::Interrupted => None,
            })
        })?;
        Ok(message.flatten().map(|message| Message { message }))
    }

    /// Sends a message that was received on, as it is, under another tag. The caller is to be done with it.
    fn forward(&self, py: Python<'_>, message: PyRef<'_, Message>, tag: u64) -> PyResult<()> {
        let (channel, message) = (&self.channel, message.inner());
        let parts = [message.inline().unwrap_or_default()];
        let mut outbox = match message.parcel() {
            None => channel.pack(tag, &Content { parts: &parts, ..Content::default() }),
            Some(parcel) => parcel
                .lease()
                .handle()
                .and_then(|handle| forkless_ipc::Parcel::open(parcel.lease().arena(), handle))
                .and_then(|parcel| channel.forward(tag, parcel)),
        }
        .or_raise(py)?;
        transmit(py, &mut outbox, (true, None)).map(|_| ())
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
