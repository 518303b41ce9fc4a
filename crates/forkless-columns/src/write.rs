//! Writing of a block, from its beginning to its end.

use crate::plan::{Plan, Shape, length};
use crate::{Item, Look};

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"fkco");
pub(crate) const VERSION: u32 = 1;
/// Bytes before the first node.
pub(crate) const HEAD: usize = 64;
/// Bytes of a node.
pub(crate) const NODE: usize = 64;
/// Where arrays begin: what caches and vector instructions want.
pub(crate) const ALIGNMENT: usize = 64;
/// How much is collected before it is handed on, in bytes.
const CHUNK: usize = 1 << 15;

pub(crate) fn block<'a, I: Item<'a>>(plan: &Plan<'a, I>, sink: &mut dyn FnMut(usize, &[u8])) {
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&MAGIC.to_le_bytes());
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(plan.size() as u64).to_le_bytes());
    head.resize(HEAD, 0);
    sink(0, &head);
    let mut writer = Writer { sink, end: HEAD };
    let root = writer.take(NODE);
    writer.node(plan, root);
    debug_assert_eq!(writer.end, plan.size(), "a plan knows its size");
}

struct Writer<'s> {
    sink: &'s mut dyn FnMut(usize, &[u8]),
    end: usize,
}

impl Writer<'_> {
    /// Room for an array, or for nodes.
    fn take(&mut self, bytes: usize) -> usize {
        let at = self.end;
        self.end = (at + bytes).next_multiple_of(ALIGNMENT);
        at
    }

    fn node<'a, I: Item<'a>>(&mut self, plan: &Plan<'a, I>, at: usize) {
        let count = plan.count;
        let (kind, array, heap, children) = match &plan.shape {
            // Their bytes are never read.
            Shape::Void(kind) => (*kind, self.take(count), (0, 0), (0, 0)),
            Shape::Fixed(kind, items) => {
                let array = self.array(count * kind.width(), |stream| {
                    items.iter().for_each(|item| stream.fixed(item.look()));
                });
                (*kind, array, (0, 0), (0, 0))
            }
            Shape::Heap(kind, items, bytes) => {
                let mut end = 0;
                let array = self.ends(items.iter().map(|item| {
                    end += length(*item) as u64;
                    end
                }));
                let heap = self.array(*bytes, |stream| {
                    items.iter().for_each(|item| stream.put(length(*item), |into| item.write(into)));
                });
                (*kind, array, (heap, *bytes), (0, 0))
            }
            Shape::Lists { kind, ends, items } => {
                let array = self.ends(ends[1..].iter().copied());
                (*kind, array, (0, 0), self.children(std::slice::from_ref(items)))
            }
            Shape::Tuples(columns) => (crate::Kind::Tuple, 0, (0, 0), self.children(columns)),
            Shape::Records(columns) => (crate::Kind::Record, 0, (0, 0), self.children(columns)),
            Shape::Maps { ends, table, columns } => {
                let array = self.ends(ends[1..].iter().copied());
                let heap = self.words(table);
                (crate::Kind::Map, array, (heap, 4 * table.len()), self.children(columns))
            }
            Shape::Union { tags, places, members } => {
                let array = self.array(count, |stream| stream.put(count, |into| into.copy_from_slice(tags)));
                let heap = self.words(places);
                (crate::Kind::Union, array, (heap, 4 * count), self.children(members))
            }
        };
        let mut node = Vec::with_capacity(NODE);
        for word in [kind as usize, count, array, heap.0, heap.1, children.0, children.1] {
            node.extend_from_slice(&(word as u64).to_le_bytes());
        }
        (self.sink)(at, &node);
    }

    /// All nodes side by side, then what belongs to each.
    fn children<'a, I: Item<'a>>(&mut self, plans: &[Plan<'a, I>]) -> (usize, usize) {
        let first = self.take(NODE * plans.len());
        for (index, plan) in plans.iter().enumerate() {
            self.node(plan, first + NODE * index);
        }
        (first, plans.len())
    }

    fn array(&mut self, bytes: usize, fill: impl FnOnce(&mut Stream<'_>)) -> usize {
        let at = self.take(bytes);
        let mut stream = Stream { sink: self.sink, at, buffer: Vec::with_capacity(bytes.min(CHUNK)) };
        fill(&mut stream);
        stream.flush();
        at
    }

    fn ends(&mut self, ends: impl ExactSizeIterator<Item = u64>) -> usize {
        self.array(8 * (ends.len() + 1), |stream| {
            stream.bytes(0_u64.to_le_bytes());
            ends.for_each(|end| stream.bytes(end.to_le_bytes()));
        })
    }

    fn words(&mut self, words: &[u32]) -> usize {
        self.array(4 * words.len(), |stream| words.iter().for_each(|word| stream.bytes(word.to_le_bytes())))
    }
}

/// Collects small pieces into large ones.
struct Stream<'s> {
    sink: &'s mut dyn FnMut(usize, &[u8]),
    at: usize,
    buffer: Vec<u8>,
}

impl Stream<'_> {
    fn fixed(&mut self, look: Look) {
        match look {
            Look::Int(number) => self.bytes(number.to_le_bytes()),
            Look::Float(number) => self.bytes(number.to_bits().to_le_bytes()),
            Look::Truth(truth) => self.bytes([u8::from(truth)]),
            _ => {}
        }
    }

    fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        if self.buffer.len() + N > CHUNK {
            self.flush();
        }
        self.buffer.extend_from_slice(&bytes);
    }

    fn put(&mut self, length: usize, write: impl FnOnce(&mut [u8])) {
        if self.buffer.len() + length > CHUNK {
            self.flush();
        }
        let begin = self.buffer.len();
        self.buffer.resize(begin + length, 0);
        write(&mut self.buffer[begin..]);
    }

    fn flush(&mut self) {
        (self.sink)(self.at, &self.buffer);
        self.at += self.buffer.len();
        self.buffer.clear();
    }
}
