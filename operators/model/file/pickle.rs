//! The pickle in a file of `torch.save`, read as data.
//!
//! A pickle is a program of a stack machine that may name and call any Python function. This machine calls nothing: a
//! global is a name, names outside the list of [`super::globals`] are refused, and a "call" makes a node of data.
//!
//! Nodes live in one vector and refer to each other by number, so cycles, deep nesting and repeated references cost
//! nothing to hold or to drop. Texts are ranges of the input.
//!
//! Cost: linear in the pickle's bytes (at most [`MAX_BYTES`]), with at most [`MAX_NODES`] nodes and stack places.

use std::borrow::Cow;

use self::machine::Machine;
use super::error::FormatError;
use super::globals::{Dtype, Global};

mod machine;

/// Largest pickle that is read; the weights themselves stand outside of it.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Most nodes, and most places of the stack.
const MAX_NODES: usize = 4 << 20;

/// Bytes of the pickle: start and length.
pub(super) type Span = (u32, u32);

/// A value: itself, or the number of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// `str`, or `str` of Python 2.
    Text(Span),
    /// `bytes`, or an integer of more than 64 bits, little-endian.
    Bytes(Span),
    Global(Global),
    Node(u32),
}

/// What a value may refer to.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// `list`, `set`, and what is made of one.
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// `dict` and `OrderedDict`; a key may come twice.
    Dict(Vec<(Value, Value)>),
    /// An instance of an inert class, with its state.
    Object(Value),
    Storage(Storage),
    Tensor(View),
}

/// A storage, by its key in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub key: Span,
    pub dtype: Dtype,
}

/// A tensor: a view of a storage, sizes and strides in elements.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub storage: Storage,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub stride: Vec<i64>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    /// The value that it stands for.
    pub root: Value,
    /// Bytes up to and with its last instruction.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Runs the program that `bytes` begin with, up to its `STOP`.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine { bytes, ..Machine::default() };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { bytes, nodes: machine.nodes, root, len: machine.at }),
                Err(source) => return Err(FormatError::Pickle { at, source }),
            }
        }
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(number) => self.nodes.get(number as usize),
            _ => None,
        }
    }

    /// The pairs of a dict.
    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    pub(super) fn bytes(&self, (start, len): Span) -> &'a [u8] {
        &self.bytes[start as usize..start as usize + len as usize]
    }

    pub(super) fn text(&self, value: Value) -> Option<Cow<'a, str>> {
        match value {
            Value::Text(span) => Some(String::from_utf8_lossy(self.bytes(span))),
            _ => None,
        }
    }

    /// All storages that it names.
    pub(super) fn storages(&self) -> impl Iterator<Item = Storage> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(*storage),
            _ => None,
        })
    }

    /// What a dict holds under a text; the last one counts, as in Python.
    pub(super) fn get(&self, dict: Value, name: &str) -> Option<Value> {
        let is = |key: Value| matches!(key, Value::Text(span) if self.bytes(span) == name.as_bytes());
        self.dict(dict)?.iter().rev().find(|(key, _)| is(*key)).map(|(_, value)| *value)
    }
}
