//! How the interpreter's structures lie in memory, by version, on 64-bit machines.
//!
//! The numbers are `offsetof` as the headers of each version give it (`Include/internal/pycore_runtime.h`,
//! `pycore_interp.h`, `pycore_frame.h`, `Include/cpython/code.h`); within a version they do not change. From 3.13 on the
//! interpreter says of itself where the deep ones are (`_Py_DebugOffsets`, at its beginning).

use forkless_sys::space::Memory;

use super::lines;

/// Offsets of fields, in bytes.
pub(super) struct Layout {
    version: u32,
    /// `_PyRuntimeState`: the first interpreter.
    pub(super) interpreters: u64,
    /// `PyInterpreterState`: the next one, and its first thread.
    pub(super) next_interpreter: u64,
    pub(super) threads: u64,
    /// `PyThreadState`: the next one, what `pthread_self` says, and the kernel's number for it.
    pub(super) next_thread: u64,
    pub(super) thread_id: u64,
    pub(super) native_id: Option<u64>,
    /// `PyThreadState`: the frame, or what has it.
    frame: u64,
    /// `_PyCFrame`: the frame.
    frame_in_c: Option<u64>,
    /// A frame: its code, its caller, where it is.
    pub(super) code: u64,
    pub(super) previous: u64,
    pub(super) instruction: u64,
    /// A frame: a byte that is 3 for one between two calls of the interpreter.
    pub(super) owner: Option<u64>,
    /// `PyCodeObject`.
    pub(super) filename: u64,
    pub(super) name: u64,
    pub(super) first_line: u64,
    pub(super) line_table: u64,
    instructions: u64,
    /// Sizes of the headers of strings.
    pub(super) ascii: u64,
    pub(super) compact: u64,
}

const V3_10: Layout = Layout {
    version: 10,
    interpreters: 32,
    next_interpreter: 0,
    threads: 8,
    next_thread: 8,
    thread_id: 176,
    native_id: None,
    frame: 24,
    frame_in_c: None,
    code: 32,
    previous: 24,
    instruction: 96,
    owner: None,
    filename: 104,
    name: 112,
    first_line: 40,
    line_table: 120,
    instructions: 0,
    ascii: 48,
    compact: 72,
};

const V3_11: Layout = Layout {
    version: 11,
    interpreters: 40,
    threads: 16,
    thread_id: 152,
    native_id: Some(160),
    frame: 56,
    frame_in_c: Some(8),
    previous: 48,
    instruction: 56,
    filename: 112,
    name: 120,
    first_line: 72,
    line_table: 136,
    instructions: 184,
    ..V3_10
};

const V3_12: Layout = Layout {
    version: 12,
    threads: 72,
    thread_id: 136,
    native_id: Some(144),
    frame_in_c: Some(0),
    code: 0,
    previous: 8,
    owner: Some(70),
    first_line: 68,
    instructions: 192,
    ascii: 40,
    compact: 56,
    ..V3_11
};

const V3_13: Layout = Layout {
    version: 13,
    interpreters: 632,
    next_interpreter: 7264,
    threads: 7344,
    thread_id: 152,
    native_id: Some(160),
    frame: 72,
    frame_in_c: None,
    instructions: 200,
    ..V3_12
};

impl Layout {
    /// That of an interpreter of version 3.`version`, whose root is at `runtime`.
    pub(super) fn of(memory: &Memory, runtime: u64, version: u32) -> Option<Self> {
        match version {
            10 => Some(V3_10),
            11 => Some(V3_11),
            12 => Some(V3_12),
            13 => Self::from_offsets(memory, runtime),
            _ => None,
        }
    }

    /// As the interpreter says itself.
    fn from_offsets(memory: &Memory, runtime: u64) -> Option<Self> {
        let word = |index: u64| memory.field(runtime, 8 * index);
        let is_free_threaded = word(2)? != 0;
        if memory.bytes(runtime, 8)? != b"xdebugpy" || is_free_threaded {
            return None;
        }
        Some(Self {
            interpreters: word(5)?,
            next_interpreter: word(8)?,
            threads: word(9)?,
            next_thread: word(21)?,
            frame: word(23)?,
            thread_id: word(24)?,
            native_id: Some(word(25)?),
            ..V3_13
        })
    }

    /// The innermost frame of a thread, 0 for none.
    pub(super) fn current_frame(&self, memory: &Memory, thread: u64) -> Option<u64> {
        let frame = memory.field(thread, self.frame)?;
        match self.frame_in_c {
            Some(field) if frame != 0 => memory.field(frame, field),
            _ => Some(frame),
        }
    }

    /// How far into its code a frame is, in bytes.
    pub(super) fn offset(&self, instruction: u64, code: u64) -> Option<u64> {
        if self.version == 10 {
            // An int, counted in instructions of two bytes; negative before the first.
            return Some(2 * u64::from(u32::try_from((instruction as u32).cast_signed()).unwrap_or(0)));
        }
        let offset = (instruction as i64).wrapping_sub(code.wrapping_add(self.instructions) as i64);
        // Before the first instruction it stands in front of it.
        (-2..1 << 24).contains(&offset).then(|| offset.max(0).unsigned_abs())
    }

    /// The line of an offset, by the table of its code.
    pub(super) fn line(&self, table: &[u8], first_line: u32, offset: u64) -> Option<u32> {
        let line = if self.version == 10 {
            lines::pairs(table, i64::from(first_line), offset)
        } else {
            lines::locations(table, i64::from(first_line), offset)
        };
        u32::try_from(line?).ok()
    }
}
