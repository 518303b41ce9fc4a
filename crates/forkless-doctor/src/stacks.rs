//! Python stacks of another process, read from its memory while it runs.
//!
//! The interpreter's root, `_PyRuntime`, is an exported symbol: [`elf`] finds it in the file that is mapped, and from
//! there the structures are followed: interpreter, threads, frames, code. How they lie in memory is in [`layout`], for
//! CPython 3.10 to 3.13. Nothing is stopped and nothing is called, so a process that runs may change what is read: then a
//! stack is short, or missing. One that waits stands still, and that is the one that matters.
//!
//! py-spy does the same, and much more, with 120 crates; here a few structures suffice.

mod elf;
mod layout;
mod lines;

use std::collections::HashMap;

use forkless_sys::space::{Mapped, Memory};

use crate::facts::Frame;
use layout::Layout;

/// More frames than this are left out.
const DEEPEST: usize = 100;
/// More threads than this are left out.
const MOST_THREADS: usize = 500;

/// A Python thread: its id, and its frames, innermost first.
pub(crate) struct Stack {
    pub(crate) tid: u32,
    pub(crate) frames: Vec<Frame>,
}

/// An interpreter in another process.
pub(crate) struct Interpreter<'a> {
    memory: &'a Memory,
    layout: Layout,
    runtime: u64,
}

impl<'a> Interpreter<'a> {
    /// The interpreter of a process; `None` if it has none of a known version.
    pub(crate) fn find(memory: &'a Memory, mappings: &[Mapped], pid: u32) -> Option<Self> {
        let mut tried: Vec<&str> = Vec::new();
        for mapped in mappings.iter().filter(|mapped| mapped.offset == 0 && is_python(&mapped.path)) {
            if tried.contains(&mapped.path.as_str()) {
                continue;
            }
            tried.push(&mapped.path);
            // By way of the process, whose files may be others than ours, in a container.
            let path = format!("/proc/{pid}/root{}", mapped.path);
            let Some(symbol) = elf::symbol(&path, "_PyRuntime") else { continue };
            let runtime = if symbol.is_absolute { symbol.value } else { mapped.start.wrapping_add(symbol.value) };
            let layout = Layout::of(memory, runtime, version(&mapped.path).or_else(|| mappings_version(mappings))?)?;
            return Some(Self { memory, layout, runtime });
        }
        None
    }

    /// The stacks of these threads.
    pub(crate) fn stacks(&self, threads: &[u32], cache: &mut Codes) -> Vec<Stack> {
        let mut stacks = Vec::new();
        for interpreter in self.list(self.runtime, self.layout.interpreters, self.layout.next_interpreter) {
            for thread in self.list(interpreter, self.layout.threads, self.layout.next_thread) {
                let frames = self.frames(thread, cache);
                match self.tid(thread, threads) {
                    Some(tid) if !frames.is_empty() => stacks.push(Stack { tid, frames }),
                    _ => {}
                }
            }
        }
        stacks
    }

    /// The members of a list. Not more than a list may have: one that changes meanwhile may lead round in circles.
    fn list(&self, head: u64, first: u64, next: u64) -> impl Iterator<Item = u64> {
        let follow = |at: u64, field| self.memory.field(at, field).filter(|member| *member != 0);
        std::iter::successors(follow(head, first), move |&member| follow(member, next)).take(MOST_THREADS)
    }

    /// Which of these threads it is.
    fn tid(&self, thread: u64, threads: &[u32]) -> Option<u32> {
        let from_libc = || tid_of(self.memory, self.memory.field(thread, self.layout.thread_id)?, threads);
        let native = || {
            let tid = self.memory.field(thread, self.layout.native_id?)? as u32;
            threads.contains(&tid).then_some(tid)
        };
        from_libc().or_else(native).or(if let [only] = threads { Some(*only) } else { None })
    }

    fn frames(&self, thread: u64, cache: &mut Codes) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = self.layout.current_frame(self.memory, thread).unwrap_or(0);
        for _ in 0..2 * DEEPEST {
            if at == 0 || frames.len() == DEEPEST {
                break;
            }
            frames.extend(self.frame(at, cache));
            at = self.memory.field(at, self.layout.previous).unwrap_or(0);
        }
        frames
    }

    /// One frame; `None` for those between two calls of the interpreter.
    fn frame(&self, at: u64, cache: &mut Codes) -> Option<Frame> {
        const BETWEEN_CALLS: u32 = 3;
        if self
            .layout
            .owner
            .is_some_and(|owner| self.memory.half_field(at, owner).is_none_or(|it| it & 0xff == BETWEEN_CALLS))
        {
            return None;
        }
        let code = self.memory.field(at, self.layout.code)?;
        let instruction = self.memory.field(at, self.layout.instruction)?;
        let code_object = cache.0.entry(code).or_insert_with(|| self.code(code)).as_ref()?;
        let offset = self.layout.offset(instruction, code)?;
        let line = self.layout.line(&code_object.lines, code_object.first_line, offset)?;
        let (function, file) = (code_object.name.clone(), code_object.file.clone());
        Some(Frame { function, file, line, ..Frame::default() })
    }

    fn code(&self, at: u64) -> Option<Code> {
        let pointer = |field| self.memory.field(at, field);
        Some(Code {
            name: self.text(pointer(self.layout.name)?)?,
            file: self.text(pointer(self.layout.filename)?)?,
            first_line: self.memory.half_field(at, self.layout.first_line)?,
            lines: self.line_table(pointer(self.layout.line_table)?)?,
        })
    }

    /// A `bytes` object.
    fn line_table(&self, at: u64) -> Option<Vec<u8>> {
        const MOST: u64 = 1 << 20;
        let length = self.memory.field(at, 16).filter(|length| *length <= MOST)?;
        self.memory.bytes(at.wrapping_add(32), length as usize)
    }

    /// A `str` object that has its characters behind it.
    fn text(&self, at: u64) -> Option<String> {
        const MOST: u64 = 4096;
        let length = self.memory.field(at, 16).filter(|length| *length <= MOST)? as usize;
        let state = self.memory.half_field(at, 32)?;
        let (width, is_compact, is_ascii) = ((state >> 2 & 7) as usize, state >> 5 & 1 == 1, state >> 6 & 1 == 1);
        if !is_compact || !matches!(width, 1 | 2 | 4) {
            return None;
        }
        let header = if is_ascii { self.layout.ascii } else { self.layout.compact };
        let bytes = self.memory.bytes(at.wrapping_add(header), length * width)?;
        let character = |unit: &[u8]| unit.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
        Some(bytes.chunks(width).map(|unit| char::from_u32(character(unit)).unwrap_or('?')).collect())
    }
}

/// Which of these threads it is that calls itself so: the C library has its number where `pthread_self` points to.
pub(crate) fn tid_of(memory: &Memory, pthread: u64, threads: &[u32]) -> Option<u32> {
    const GLIBC_TID: u64 = if cfg!(target_arch = "x86_64") { 0x2d0 } else { 0xd0 };
    memory.half_field(pthread, GLIBC_TID).filter(|tid| threads.contains(tid))
}

/// A function, as its frames share it.
struct Code {
    name: String,
    file: String,
    first_line: u32,
    lines: Vec<u8>,
}

/// The functions of one process that were met so far, by address.
#[derive(Default)]
pub(crate) struct Codes(HashMap<u64, Option<Code>>);

/// Whether a file may have the interpreter in it.
fn is_python(path: &str) -> bool {
    let name = path.trim_end_matches(" (deleted)").rsplit('/').next().unwrap_or("");
    name.starts_with("libpython3") && name.contains(".so") || name.starts_with("python")
}

/// The 11 of libpython3.11.so.1.0 or python3.11.
fn version(path: &str) -> Option<u32> {
    let (_, rest) = path.rsplit('/').next()?.split_once("python3.")?;
    rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// That of a program named `python`: its library's, or that of the extension modules it has loaded.
fn mappings_version(mappings: &[Mapped]) -> Option<u32> {
    mappings.iter().find_map(|mapped| {
        let (_, rest) = mapped.path.rsplit_once("cpython-3").or_else(|| mapped.path.split_once("/python3."))?;
        rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
    })
}
