//! Pickles of plain values, read within bounds.
//!
//! A pickle is a program for a machine with a stack and a memo. Of its language this reads what CPython and `serde-pickle`
//! write, in protocols 3 to 5, for numbers, text, bytes, lists, tuples, sets and dicts. All else stands for objects of
//! Python, which nobody can make here, and is an error that names them.
//!
//! A pickle comes from another process and may be anything. So what is read becomes a flat list of [`Node`]s, which refer
//! to each other by number: it takes memory in proportion to the bytes read, whatever they say, and is dropped without
//! recursion. That the same node may be referred to any number of times, even by itself, is for the reader of the nodes to
//! mind: see [`Node::List`]. (The reader of `serde-pickle`
//! copies in place of referring, so that a hundred bytes can ask it for any amount of memory, and recurses without a bound: a
//! list nested a million deep overflows the stack. It takes 400 MB for 100,000 tuples of four, this one 28.)

use std::fmt::{Display, Formatter};

/// A value, by its number in the list of nodes.
pub(super) type Index = u32;

/// A value. Text and bytes are where they were in the pickle.
#[derive(Debug, PartialEq)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Bytes(&'a [u8]),
    Str(&'a str),
    /// A list, a tuple or a set. It may contain itself.
    List(Vec<Index>),
    Dict(Vec<(Index, Index)>),
    /// A class or function of Python. Good for nothing but an error.
    Global(&'a str, &'a str),
}

/// What a pickle stands for.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: Index,
}

/// Why a pickle is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It ends too early, or refers to what is not there.
    Damaged(&'static str),
    /// It stands for an object of this class, or of one that it does not say.
    Object(Option<String>),
    /// It has an instruction that no plain value needs.
    Opcode(u8),
    /// An integer of more than 128 bits.
    Large,
    /// Text with half a surrogate pair.
    Text,
}

impl Display for Refused {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => write!(formatter, "it is damaged: {what}"),
            Self::Object(Some(name)) => write!(formatter, "it has an object of Python in it, made by {name}"),
            Self::Object(None) => formatter.write_str("it has an object of Python in it"),
            Self::Opcode(code) => write!(formatter, "it is no plain value of Python: opcode {code:#04x}"),
            Self::Large => formatter.write_str("it has an integer of more than 128 bits in it"),
            Self::Text => formatter.write_str("it has text in it that is not UTF-8"),
        }
    }
}

const CUT: Refused = Refused::Damaged("it ends too early");
const UNDERFLOW: Refused = Refused::Damaged("an instruction finds too little on the stack");

/// The instructions, by the names that CPython's `pickletools` gives them.
mod opcode {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const LONG4: u8 = 0x8b;
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const BYTEARRAY8: u8 = 0x96;
    /// What makes an object of what is on the stack, or of a buffer beside the pickle: REDUCE, OBJ, INST, BUILD, NEWOBJ,
    /// NEWOBJ_EX, NEXT_BUFFER, READONLY_BUFFER.
    pub(super) const MAKE: [u8; 8] = [b'R', b'o', b'i', b'b', 0x81, 0x92, 0x97, 0x98];
}

/// The machine.
struct Machine<'a> {
    /// What has not been read.
    rest: &'a [u8],
    nodes: Vec<Node<'a>>,
    stack: Vec<Index>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Index>,
    /// The last class or function that was named.
    global: Option<Index>,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle, all of it.
    ///
    /// # Errors
    /// [`Refused`], if it is damaged, or more than plain values.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Refused> {
        // At most one node and one instruction for each byte, so that all numbers fit.
        if Index::try_from(bytes.len()).is_err() {
            return Err(Refused::Damaged("it is longer than 4 GiB"));
        }
        let (nodes, stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut machine = Machine { rest: bytes, nodes, stack, marks, memo, global: None };
        loop {
            let code = machine.byte()?;
            if code == opcode::STOP {
                break;
            }
            machine.step(code)?;
        }
        let root = machine.pop()?;
        if !(machine.rest.is_empty() && machine.stack.is_empty() && machine.marks.is_empty()) {
            return Err(Refused::Damaged("something is left over at its end"));
        }
        Ok(Self { nodes: machine.nodes, root })
    }
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8) -> Result<(), Refused> {
        use opcode as op;
        match code {
            op::PROTO => self.bytes(1).map(|_| ()),
            op::FRAME => self.bytes(8).map(|_| ()),
            op::NONE => self.push(Node::None),
            op::NEWTRUE => self.push(Node::Bool(true)),
            op::NEWFALSE => self.push(Node::Bool(false)),
            op::BININT1 => self.integer(1, false),
            op::BININT2 => self.integer(2, false),
            op::BININT => self.integer(4, true),
            op::LONG1 | op::LONG4 => {
                let length = self.length(if code == op::LONG1 { 1 } else { 4 })?;
                self.integer(length, true)
            }
            op::BINFLOAT => {
                let bytes = self.bytes(8)?.try_into().map_err(|_| CUT)?;
                self.push(Node::Float(f64::from_be_bytes(bytes)))
            }
            op::SHORT_BINBYTES => self.byte_string(1),
            op::BINBYTES => self.byte_string(4),
            op::BINBYTES8 | op::BYTEARRAY8 => self.byte_string(8),
            op::SHORT_BINUNICODE => self.text(1),
            op::BINUNICODE => self.text(4),
            op::BINUNICODE8 => self.text(8),
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::EMPTY_LIST | op::EMPTY_TUPLE | op::EMPTY_SET => self.push(Node::List(Vec::new())),
            op::EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            op::TUPLE1 => self.last(1),
            op::TUPLE2 => self.last(2),
            op::TUPLE3 => self.last(3),
            op::TUPLE | op::FROZENSET => {
                let count = self.since_mark()?;
                self.last(count)
            }
            op::APPEND => self.extend_list(1),
            op::APPENDS | op::ADDITEMS => {
                let count = self.since_mark()?;
                self.extend_list(count)
            }
            op::SETITEM => self.extend_dict(2),
            op::SETITEMS => {
                let count = self.since_mark()?;
                self.extend_dict(count)
            }
            op::MEMOIZE => self.memoize(self.memo.len()),
            op::BINPUT => {
                let at = self.length(1)?;
                self.memoize(at)
            }
            op::LONG_BINPUT => {
                let at = self.length(4)?;
                self.memoize(at)
            }
            op::BINGET => self.recall(1),
            op::LONG_BINGET => self.recall(4),
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                    (&Node::Str(module), &Node::Str(name)) => self.push_global(module, name),
                    _ => Err(Refused::Damaged("the name of a class is no text")),
                }
            }
            code if op::MAKE.contains(&code) => Err(self.object()),
            code => Err(Refused::Opcode(code)),
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(CUT)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        Ok(self.bytes(1)?[0])
    }

    /// A number without sign, of at most eight bytes.
    fn length(&mut self, size: usize) -> Result<usize, Refused> {
        let mut word = [0; 8];
        word[..size].copy_from_slice(self.bytes(size)?);
        usize::try_from(u64::from_le_bytes(word)).map_err(|_| CUT)
    }

    fn line(&mut self) -> Result<&'a str, Refused> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        let line = self.bytes(end + 1)?;
        str::from_utf8(&line[..end]).map_err(|_| Refused::Text)
    }

    fn integer(&mut self, size: usize, signed: bool) -> Result<(), Refused> {
        let bytes = self.bytes(size)?;
        let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut word = if negative { [0xff; 16] } else { [0; 16] };
        word.get_mut(..size).ok_or(Refused::Large)?.copy_from_slice(bytes);
        self.push(Node::Int(i128::from_le_bytes(word)))
    }

    fn byte_string(&mut self, size: usize) -> Result<(), Refused> {
        let length = self.length(size)?;
        let bytes = self.bytes(length)?;
        self.push(Node::Bytes(bytes))
    }

    fn text(&mut self, size: usize) -> Result<(), Refused> {
        let length = self.length(size)?;
        let text = str::from_utf8(self.bytes(length)?).map_err(|_| Refused::Text)?;
        self.push(Node::Str(text))
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), Refused> {
        let index = Index::try_from(self.nodes.len()).map_err(|_| Refused::Damaged("it has too many values"))?;
        self.nodes.push(node);
        self.stack.push(index);
        Ok(())
    }

    fn push_global(&mut self, module: &'a str, name: &'a str) -> Result<(), Refused> {
        self.push(Node::Global(module, name))?;
        self.global = self.stack.last().copied();
        Ok(())
    }

    /// Where the values begin that belong to the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Index, Refused> {
        if self.stack.len() <= self.floor() {
            return Err(UNDERFLOW);
        }
        self.stack.pop().ok_or(UNDERFLOW)
    }

    /// Takes away the last mark; how many values came after it.
    fn since_mark(&mut self) -> Result<usize, Refused> {
        let mark = self.marks.pop().ok_or(UNDERFLOW)?;
        Ok(self.stack.len() - mark)
    }

    /// Takes the last so many values off the stack.
    fn split(&mut self, count: usize) -> Result<std::vec::Drain<'_, Index>, Refused> {
        let at = self.stack.len().checked_sub(count).filter(|at| *at >= self.floor()).ok_or(UNDERFLOW)?;
        Ok(self.stack.drain(at..))
    }

    fn last(&mut self, count: usize) -> Result<(), Refused> {
        let items = self.split(count)?.collect();
        self.push(Node::List(items))
    }

    fn extend_list(&mut self, count: usize) -> Result<(), Refused> {
        let items: Vec<Index> = self.split(count)?.collect();
        match self.top()? {
            Node::List(list) => list.extend(items),
            Node::Global(..) => return Err(self.object()),
            _ => return Err(Refused::Damaged("an item for what is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, count: usize) -> Result<(), Refused> {
        let items: Vec<Index> = self.split(count)?.collect();
        let (pairs, rest) = items.as_chunks::<2>();
        match self.top()? {
            Node::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Node::Global(..) => return Err(self.object()),
            _ => return Err(Refused::Damaged("an item for what is no dict")),
        }
        Ok(())
    }

    fn top(&mut self) -> Result<&mut Node<'a>, Refused> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor()).ok_or(UNDERFLOW)?;
        self.nodes.get_mut(*top as usize).ok_or(UNDERFLOW)
    }

    /// Notes the top of the stack. CPython and serde-pickle count from zero and leave nothing out.
    fn memoize(&mut self, at: usize) -> Result<(), Refused> {
        let top = self.pop()?;
        self.stack.push(top);
        if at == self.memo.len() {
            self.memo.push(top);
        } else {
            *self.memo.get_mut(at).ok_or(Refused::Damaged("its memo has gaps"))? = top;
        }
        Ok(())
    }

    fn recall(&mut self, size: usize) -> Result<(), Refused> {
        let at = self.length(size)?;
        let index = self.memo.get(at).ok_or(Refused::Damaged("it refers to what is not there"))?;
        self.stack.push(*index);
        Ok(())
    }

    fn object(&self) -> Refused {
        match self.global.and_then(|index| self.nodes.get(index as usize)) {
            Some(Node::Global(module, name)) => Refused::Object(Some(format!("{module}.{name}"))),
            _ => Refused::Object(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(bytes: &[u8]) -> String {
        let pickle = Pickle::read(bytes).unwrap();
        show(&pickle, pickle.root)
    }

    fn show(pickle: &Pickle<'_>, index: Index) -> String {
        let all = |items: &[Index]| items.iter().map(|item| show(pickle, *item)).collect::<Vec<_>>().join(" ");
        match &pickle.nodes[index as usize] {
            Node::List(items) => format!("[{}]", all(items)),
            Node::Dict(items) => {
                let pairs = items.iter().map(|(key, value)| format!("{}:{}", show(pickle, *key), show(pickle, *value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
            }
            Node::Int(number) => number.to_string(),
            Node::Str(text) => format!("{text:?}"),
            Node::Bytes(bytes) => format!("b{bytes:?}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_cpython_writes() {
        // pickle.dumps({"a": [1, -1, 300, 70000, 2**40, -2**70], "b": ("a", None, True, 1.5), 3: {b"x"}}, 5)
        let bytes = b"\x80\x05\x95\x48\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01J\xff\xff\xff\xffM,\x01Jp\x11\x01\0\
            \x8a\x06\0\0\0\0\0\x01\x8a\t\0\0\0\0\0\0\0\0\xc0e\x8c\x01b\x94(h\x01N\x88G?\xf8\0\0\0\0\0\0t\x94K\x03\
            \x8f\x94(C\x01x\x94\x90u.";
        let text = "{\"a\":[1 -1 300 70000 1099511627776 -1180591620717411303424] \
            \"b\":[\"a\" None Bool(true) Float(1.5)] 3:[b[120]]}";
        assert_eq!(root(bytes), text);
    }

    #[test]
    fn what_serde_pickle_writes() {
        let value = (1_u64 << 63, "text", [Some(1.5), None], vec![(); 1001]);
        let bytes = serde_pickle::to_vec(&value, serde_pickle::SerOptions::new()).unwrap();
        let nothing = ["None"; 1001].join(" ");
        assert_eq!(root(&bytes), format!("[9223372036854775808 \"text\" [Float(1.5) None] [{nothing}]]"));
    }

    #[test]
    fn a_value_is_read_once_however_often_it_is_referred_to() {
        let pickle = Pickle::read(b"](]\x94h\0h\0e.").unwrap();
        assert_eq!(pickle.nodes, [Node::List(vec![1, 1, 1]), Node::List(vec![])]);
        let pickle = Pickle::read(b"]\x94(h\0h\0e.").unwrap();
        assert_eq!(pickle.nodes, [Node::List(vec![0, 0])], "it contains itself");
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = |levels: usize| [vec![b']'; levels], vec![b'a'; levels - 1], b".".to_vec()].concat();
        assert_eq!(Pickle::read(&deep(1_000_000)).unwrap().nodes.len(), 1_000_000);
        let marks = [vec![b'('; 1_000_000], vec![b't'; 1_000_000], b".".to_vec()].concat();
        assert_eq!(Pickle::read(&marks).unwrap().nodes.len(), 1_000_000);
    }

    #[test]
    fn what_is_no_plain_value_is_refused_by_name() {
        let refused = |bytes: &[u8]| Pickle::read(bytes).unwrap_err();
        let fraction = b"\x80\x05\x8c\tfractions\x94\x8c\x08Fraction\x94\x93\x94\x8c\x031/2\x94\x85\x94R\x94.";
        assert_eq!(refused(fraction), Refused::Object(Some("fractions.Fraction".into())));
        assert_eq!(refused(b"cbuiltins\nset\n]\x85R."), Refused::Object(Some("builtins.set".into())));
        assert_eq!(refused(b"(NNi"), Refused::Object(None));
        assert_eq!(refused(b"]2."), Refused::Opcode(b'2'));
        assert_eq!(
            refused(b"\x8a\x11\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01."),
            Refused::Large
        );
        assert_eq!(refused(b"\x8c\x03\xed\xb2\x80."), Refused::Text);
    }

    #[test]
    fn damage_is_an_error() {
        for bytes in [
            &b""[..],
            b".",
            b"N",
            b"NN.",
            b"N(.",
            b"N..",
            b"t.",
            b"(N.",
            b"N(a.",
            b"Na.",
            b"NNa.",
            b"](NNNu.",
            b"}(Nu.",
            b"}NNNs.",
            b"h\0.",
            b"Nq\x01.",
            b"\x94.",
            b"\x85.",
            b"(\x85.",
            b"N(\x94.",
            b"](a.",
            b"NN\x93.",
            b"C\x05abc.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.",
            b"\x8b\xff\xff\xff\xff.",
            b"cmodule",
            b"\x95\0.",
        ] {
            assert!(Pickle::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
