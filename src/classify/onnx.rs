//! Looks over an ONNX file's bytes before ONNX Runtime sees them.
//!
//! A graph can name other files for its weights (`external_data`: path traversal, files swapped after hashing), use
//! operators from libraries that are loaded for it, define its own functions, or loop for as long as it likes. None of it
//! is needed here, so all of it is refused. The walk knows only the fields that lead to such places (numbers from
//! `onnx.proto`) and steps over everything else.

use std::fmt;

/// Why a graph is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A tensor whose data lie outside the file.
    ExternalData,
    /// A node of a domain that is not among [`DOMAINS`].
    Domain(String),
    /// A node that repeats a graph of its own.
    Operator(String),
    /// Functions defined in the model.
    Functions,
    /// A graph meant for training.
    Training,
    /// No graph at all.
    NoGraph,
    /// Not the wire format, or messages within messages deeper than any honest graph.
    Malformed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalData => f.write_str("its weights lie in another file; expected one self-contained file"),
            Self::Domain(domain) => write!(f, "it uses operators of the domain {domain:?}; expected only {DOMAINS:?}"),
            Self::Operator(name) => write!(f, "it uses the operator {name:?}, whose running time nothing bounds"),
            Self::Functions => f.write_str("it defines functions of its own"),
            Self::Training => f.write_str("it holds training graphs"),
            Self::NoGraph => f.write_str("it holds no graph"),
            Self::Malformed => f.write_str("it is not an ONNX file"),
        }
    }
}

/// Operator domains that ONNX Runtime itself implements; the empty one is ONNX's own.
const DOMAINS: &[&str] = &["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Operators that run a graph of theirs an unbounded number of times.
const UNBOUNDED: &[&[u8]] = &[b"Loop", b"Scan"];

/// Messages within messages. An encoder needs 5 (model, graph, node, attribute, tensor).
const DEPTH: usize = 32;

/// Checks a whole model.
pub(super) fn check(model: &[u8]) -> Result<(), Refusal> {
    let mut graphs = 0_usize;
    // Depth-first with a stack of its own: a crafted file cannot exhaust the thread's.
    let mut open = vec![(Message::Model, Fields(model), 0)];
    while let Some((message, fields, depth)) = open.pop() {
        for field in fields {
            let (number, value) = field?;
            message.check(number, &value)?;
            let (Value::Bytes(bytes), Some(child)) = (value, message.child(number)) else { continue };
            if depth == DEPTH {
                return Err(Refusal::Malformed);
            }
            graphs += usize::from(child == Message::Graph);
            open.push((child, Fields(bytes), depth + 1));
        }
    }
    if graphs == 0 { Err(Refusal::NoGraph) } else { Ok(()) }
}

/// The messages of `onnx.proto` that the walk enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
}

impl Message {
    fn child(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }

    fn check(self, field: u64, value: &Value<'_>) -> Result<(), Refusal> {
        match (self, field, value) {
            (Self::Model, 20, _) => Err(Refusal::Training),
            (Self::Model, 25, _) => Err(Refusal::Functions),
            // external_data entries, or data_location = EXTERNAL without any.
            (Self::Tensor, 13, _) | (Self::Tensor, 14, Value::Number(1)) => Err(Refusal::ExternalData),
            (Self::Node, 4, Value::Bytes(name)) if UNBOUNDED.contains(name) => Err(Refusal::Operator(text(name))),
            (Self::Node, 7, Value::Bytes(name)) if !DOMAINS.iter().any(|domain| domain.as_bytes() == *name) => {
                Err(Refusal::Domain(text(name)))
            }
            _ => Ok(()),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A field's value on the wire.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes: floats, of no interest here.
    Fixed,
}

/// The fields of one message, in order. Ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Refusal::Malformed);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups (3, 4) are obsolete and no part of ONNX.
            _ => return None,
        };
        (key >> 3 != 0).then_some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classify::tests::fixture::{bytes, number};

    fn model(graph: &[u8]) -> Vec<u8> {
        [number(1, 8), bytes(7, graph)].concat()
    }

    fn node(op: &str, domain: &str) -> Vec<u8> {
        bytes(1, &[bytes(4, op.as_bytes()), bytes(7, domain.as_bytes())].concat())
    }

    #[test]
    fn a_plain_graph_passes() {
        let tensor = bytes(5, &[number(1, 4), bytes(9, &[0; 16]), number(14, 0)].concat());
        let graph = [node("MatMul", ""), node("QAttention", "com.microsoft"), tensor].concat();
        assert_eq!(check(&model(&graph)), Ok(()));
    }

    #[test]
    fn external_data_is_refused_wherever_a_tensor_can_be() {
        let entry = bytes(13, &[bytes(1, b"location"), bytes(2, b"../../etc/passwd")].concat());
        let flag = number(14, 1);
        for tensor in [entry, flag] {
            let attribute = |field| bytes(1, &bytes(5, &bytes(field, &tensor)));
            let sparse = |field| bytes(15, &bytes(field, &tensor));
            let nested = bytes(1, &bytes(5, &bytes(6, &bytes(5, &tensor))));
            for graph in [bytes(5, &tensor), attribute(5), attribute(10), sparse(1), sparse(2), nested] {
                assert_eq!(check(&model(&graph)), Err(Refusal::ExternalData));
            }
        }
    }

    #[test]
    fn strange_operators_are_refused() {
        assert_eq!(check(&model(&node("Run", "evil.ops"))), Err(Refusal::Domain("evil.ops".to_owned())));
        assert_eq!(check(&model(&node("Loop", ""))), Err(Refusal::Operator("Loop".to_owned())));
        let within = bytes(1, &bytes(5, &bytes(11, &node("Run", "evil.ops"))));
        assert_eq!(check(&model(&within)), Err(Refusal::Domain("evil.ops".to_owned())));
    }

    #[test]
    fn functions_and_training_graphs_are_refused() {
        let with = |field| [model(&node("MatMul", "")), bytes(field, b"")].concat();
        assert_eq!(check(&with(25)), Err(Refusal::Functions));
        assert_eq!(check(&with(20)), Err(Refusal::Training));
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert_eq!(check(b""), Err(Refusal::NoGraph));
        assert_eq!(check(b"not a protobuf"), Err(Refusal::Malformed));
        let cut = model(&node("MatMul", ""));
        assert_eq!(check(&cut[..cut.len() - 1]), Err(Refusal::Malformed));
        let deep = (0..40).fold(node("MatMul", ""), |inner, _| bytes(1, &bytes(5, &bytes(6, &inner))));
        assert_eq!(check(&model(&deep)), Err(Refusal::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(model in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = check(&model);
        }
    }
}
