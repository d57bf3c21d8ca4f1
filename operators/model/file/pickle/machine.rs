//! The stack machine: one instruction after the other, each made into data.

use std::collections::HashMap;

use super::{MAX_NODES, Node, Span, Storage, Value, View};
use crate::file::error::PickleError;
use crate::file::globals::Global;

#[derive(Default)]
pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) nodes: Vec<Node>,
    pub(super) stack: Vec<Value>,
    /// Lengths of the stack at each open mark.
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u64, Value>,
    /// Pairs of dicts that were made from lists.
    pub(super) copied: usize,
}

impl Machine<'_> {
    fn span(&mut self, len: u64) -> Result<Span, PickleError> {
        let rest = (self.bytes.len() - self.at) as u64;
        if len > rest {
            return Err(PickleError::Short { announced: len, left: rest });
        }
        // Both are at most MAX_BYTES.
        let span = (self.at as u32, len as u32);
        self.at += len as usize;
        Ok(span)
    }

    /// The next `N` bytes.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(PickleError::Cut)?;
        self.at += N;
        Ok(*taken)
    }

    fn count<const N: usize>(&mut self) -> Result<u64, PickleError> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.take::<N>()?);
        Ok(u64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take(1 << 10).position(|&b| b == b'\n').ok_or(PickleError::Cut)?;
        self.at += len + 1;
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.stack.len() >= MAX_NODES {
            return Err(PickleError::TooMany);
        }
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, node: Node) -> Result<Value, PickleError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(PickleError::TooMany);
        }
        self.nodes.push(node);
        Ok(Value::Node(self.nodes.len() as u32 - 1))
    }

    fn push_new(&mut self, node: Node) -> Result<(), PickleError> {
        let value = self.make(node)?;
        self.push(value)
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    /// What lies above the last mark, which goes.
    fn marked(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Value, PickleError> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn tuple(&mut self, len: usize) -> Result<(), PickleError> {
        let mut items = (0..len).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push_new(Node::Tuple(items))
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<(), PickleError> {
        match self.top()? {
            Value::Node(number) => match &mut self.nodes[number as usize] {
                Node::List(list) => list.extend(items),
                Node::Dict(pairs) if items.len().is_multiple_of(2) => {
                    pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                }
                _ => return Err("items for what holds none".into()),
            },
            _ => return Err("items for what holds none".into()),
        }
        Ok(())
    }

    fn items(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Node(number) => match &self.nodes[number as usize] {
                Node::List(items) | Node::Tuple(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let global = Global::of(module, name).ok_or_else(|| PickleError::Code(format!("{module}.{name}")))?;
        self.push(Value::Global(global))
    }

    /// A "call" of a global, or a new instance of one: data in both cases.
    fn call(&mut self, callee: Value, args: Value) -> Result<(), PickleError> {
        let Value::Global(global) = callee else { return Err("a call of what is no global".into()) };
        // The longest known call has 7; what is longer would only be copied for nothing.
        let args = self.items(args).filter(|args| args.len() <= 8).ok_or("arguments that are no short tuple")?.to_vec();
        let value = match (global, args.as_slice()) {
            (Global::Dict, []) => self.make(Node::Dict(Vec::new()))?,
            (Global::Dict, [pairs]) => {
                let pair = |pair: &Value| match self.items(*pair) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => Err("a dict of what are no pairs"),
                };
                let pairs = self.items(*pairs).ok_or("a dict of what is no list")?;
                let pairs = pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
                // One list may be named often: what is copied counts.
                self.copied += pairs.len();
                if self.copied > MAX_NODES {
                    return Err(PickleError::TooMany);
                }
                self.make(Node::Dict(pairs))?
            }
            (Global::List, []) => self.make(Node::List(Vec::new()))?,
            (Global::List, [items]) => *items,
            (Global::Tensor, [storage, offset, shape, stride, ..]) => self.view(*storage, *offset, *shape, *stride)?,
            (Global::First, [first, ..]) => *first,
            (Global::Inert, _) => self.make(Node::Object(Value::None))?,
            _ => return Err(PickleError::Form(format!("{global:?} is made in a way that is not known"))),
        };
        self.push(value)
    }

    fn view(&mut self, storage: Value, offset: Value, shape: Value, stride: Value) -> Result<Value, PickleError> {
        let storage = match storage {
            Value::Node(number) => match &self.nodes[number as usize] {
                Node::Storage(storage) => *storage,
                _ => return Err("a tensor without a storage".into()),
            },
            _ => return Err("a tensor without a storage".into()),
        };
        let sides = |value: Value| -> Result<Vec<i64>, PickleError> {
            let items = self.items(value).filter(|sides| sides.len() <= 64).ok_or("a shape that is no short tuple")?;
            let side = |item: &Value| match item {
                Value::Int(side) if *side >= 0 => Ok(*side),
                other => Err(PickleError::Form(format!("a shape or stride of {other:?}"))),
            };
            items.iter().map(side).collect()
        };
        let (shape, stride) = (sides(shape)?, sides(stride)?);
        self.copied += shape.len() + stride.len();
        if self.copied > MAX_NODES {
            return Err(PickleError::TooMany);
        }
        match offset {
            Value::Int(offset) if offset >= 0 && shape.len() == stride.len() => {
                self.make(Node::Tensor(View { storage, offset, shape, stride }))
            }
            _ => Err("a tensor whose offset, shape and strides do not go together".into()),
        }
    }

    /// `('storage', class, key, location, elements[, view])`.
    fn storage(&mut self, id: Value) -> Result<(), PickleError> {
        match self.items(id) {
            Some([_, Value::Global(Global::Storage(dtype)), Value::Text(key), _, _, rest @ ..])
                if rest.iter().all(|view| *view == Value::None) =>
            {
                let storage = Storage { key: *key, dtype: *dtype };
                self.push_new(Node::Storage(storage))
            }
            _ => Err("a persistent id that is no storage of torch.save's".into()),
        }
    }

    fn remember(&mut self, place: u64) -> Result<(), PickleError> {
        let value = self.top()?;
        if self.memo.len() >= MAX_NODES {
            return Err(PickleError::TooMany);
        }
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<(), PickleError> {
        let value = *self.memo.get(&place).ok_or(PickleError::NotRemembered(place))?;
        self.push(value)
    }

    /// One instruction; the value at `STOP`.
    pub(super) fn step(&mut self) -> Result<Option<Value>, PickleError> {
        let [op] = self.take::<1>()?;
        match op {
            0x80 => match self.take::<1>()? {
                [2..=5] => {}
                [protocol] => return Err(PickleError::Protocol(protocol)),
            },
            0x95 => _ = self.take::<8>()?, // FRAME: a hint for readers of streams
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.marked()?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let bytes = self.take::<4>()?;
                self.push(Value::Int(i32::from_le_bytes(bytes).into()))?;
            }
            b'K' => {
                let [byte] = self.take::<1>()?;
                self.push(Value::Int(byte.into()))?;
            }
            b'M' => {
                let bytes = self.take::<2>()?;
                self.push(Value::Int(u16::from_le_bytes(bytes).into()))?;
            }
            0x8a | 0x8b => {
                let len = if op == 0x8a { self.count::<1>()? } else { self.count::<4>()? };
                let span = self.span(len)?;
                self.push(integer(&self.bytes[span.0 as usize..self.at]).map_or(Value::Bytes(span), Value::Int))?;
            }
            b'G' => {
                let bytes = self.take::<8>()?;
                self.push(Value::Float(f64::from_be_bytes(bytes)))?;
            }
            b'X' | b'T' | 0x8c | b'U' | 0x8d => {
                let len = match op {
                    b'X' | b'T' => self.count::<4>()?,
                    0x8d => self.count::<8>()?,
                    _ => self.count::<1>()?,
                };
                let span = self.span(len)?;
                self.push(Value::Text(span))?;
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let len = match op {
                    b'B' => self.count::<4>()?,
                    b'C' => self.count::<1>()?,
                    _ => self.count::<8>()?,
                };
                let span = self.span(len)?;
                self.push(Value::Bytes(span))?;
            }
            b']' | 0x8f => self.push_new(Node::List(Vec::new()))?,
            b'}' => self.push_new(Node::Dict(Vec::new()))?,
            b')' => self.push_new(Node::Tuple(Vec::new()))?,
            0x85..=0x87 => self.tuple(usize::from(op) - 0x84)?,
            b't' => {
                let items = self.marked()?;
                self.push_new(Node::Tuple(items))?;
            }
            b'l' | 0x91 => {
                let items = self.marked()?;
                self.push_new(Node::List(items))?;
            }
            b'd' => {
                let items = self.marked()?;
                self.push_new(Node::Dict(Vec::new()))?;
                self.extend(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend(vec![key, value])?;
            }
            b'e' | b'u' | 0x90 => {
                let items = self.marked()?;
                self.extend(items)?;
            }
            b'q' => {
                let place = self.count::<1>()?;
                self.remember(place)?;
            }
            b'r' => {
                let place = self.count::<4>()?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let place = self.count::<1>()?;
                self.recall(place)?;
            }
            b'j' => {
                let place = self.count::<4>()?;
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    let text = |(start, len): Span| {
                        String::from_utf8_lossy(&self.bytes[start as usize..(start + len) as usize]).into_owned()
                    };
                    let (module, name) = (text(module), text(name));
                    self.global(&module, &name)?;
                }
                _ => return Err("a global whose name is no text".into()),
            },
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.call(callee, args)?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                match object {
                    Value::Node(number) => match &mut self.nodes[number as usize] {
                        Node::Object(held) => *held = state,
                        Node::Dict(_) => {} // attributes of an OrderedDict: `_metadata`, versions of modules
                        _ => return Err("a state for what has none".into()),
                    },
                    _ => return Err("a state for what has none".into()),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            other => return Err(PickleError::Unknown(other)),
        }
        Ok(None)
    }
}

/// Little-endian two's complement of up to 8 bytes.
fn integer(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}
