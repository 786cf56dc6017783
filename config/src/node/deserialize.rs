//! Serde over a [`Node`]: every error says what, and at which path.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Node, NodePath};

/// The document type whose value is a secret when somebody gets it wrong.
const SECRET_TYPE: &str = "SecretSource";

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeError {
    pub(crate) problem: Problem,
    /// `None` only until the deserializer that knows the path has seen the error.
    pub(crate) path: Option<NodePath>,
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// The path ends with a key that its mapping does not have.
    UnknownKey { expected: &'static [&'static str] },
    /// The string is none of the words that may stand here.
    UnknownWord {
        word: String,
        expected: &'static [&'static str],
    },
    /// The mapping lacks a key.
    MissingKey(String),
    /// Another kind of value is needed.
    WrongType { found: String, expected: String },
    /// The key is there without a value.
    NoValue,
    /// This is no `{ env }` or `{ file }`; what it is may be the secret itself.
    SecretWritten,
    /// In the words of the type that is read.
    Custom(String),
}

/// What to leave out while reading, and what was learned by it.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Keys and elements that were found to be wrong before.
    pub(crate) skip: BTreeSet<NodePath>,
    /// Where secrets are named.
    pub(crate) secrets: RefCell<BTreeSet<NodePath>>,
}

/// Reads a `T` from `node`.
///
/// # Errors
/// The first problem that was met.
pub(crate) fn from_node<T: DeserializeOwned>(
    node: &Node,
    context: &Context,
) -> Result<T, NodeError> {
    T::deserialize(NodeDeserializer {
        node,
        path: NodePath::default(),
        context,
    })
}

impl NodeError {
    fn new(problem: Problem) -> Self {
        Self {
            problem,
            path: None,
        }
    }

    /// The innermost deserializer that sees the error knows best where it happened.
    fn at(mut self, path: &NodePath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl Error for NodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Custom(message.to_string()))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { expected })
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownWord {
            word: word.to_owned(),
            expected,
        })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Problem::MissingKey(key.to_owned()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::WrongType {
            found: describe(found).to_string(),
            expected: expected.to_string(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

fn describe(found: Unexpected<'_>) -> Node {
    match found {
        Unexpected::Bool(value) => Node::Bool(value),
        Unexpected::Unsigned(value) => Node::Integer(value.into()),
        Unexpected::Signed(value) => Node::Integer(value.into()),
        Unexpected::Float(value) => Node::Float(value),
        Unexpected::Str(text) => Node::String(text.to_owned()),
        Unexpected::Seq => Node::List(Vec::new()),
        Unexpected::Map => Node::Mapping(Vec::new()),
        _ => Node::Null,
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl std::error::Error for NodeError {}

struct NodeDeserializer<'a> {
    node: &'a Node,
    path: NodePath,
    context: &'a Context,
}

impl NodeDeserializer<'_> {
    fn wrong_type(&self, expected: &str) -> NodeError {
        let problem = Problem::WrongType {
            found: self.node.to_string(),
            expected: expected.to_owned(),
        };
        NodeError::new(problem).at(&self.path)
    }

    fn read_string<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.node {
            Node::String(text) => visitor
                .visit_str(text)
                .map_err(|error: NodeError| error.at(&self.path)),
            _ => Err(self.wrong_type("a string")),
        }
    }

    fn read_unsigned<'de, V: Visitor<'de>>(
        self,
        max: u64,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        match self.node {
            Node::Integer(value) => match u64::try_from(*value) {
                Ok(value) if value <= max => visitor.visit_u64(value),
                _ => Err(self.wrong_type(&format!("a whole number from 0 to {max}"))),
            },
            _ => Err(self.wrong_type("a whole number")),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let path = self.path.clone();
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i128(*value),
            },
            Node::Float(value) => visitor.visit_f64(*value),
            Node::String(text) => visitor.visit_str(text),
            Node::List(_) => self.deserialize_seq(visitor),
            Node::Mapping(_) => self.deserialize_map(visitor),
        }
        .map_err(|error| error.at(&path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.node {
            Node::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.wrong_type("`true` or `false`")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.read_unsigned(u32::MAX.into(), visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.read_unsigned(u64::MAX, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.read_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.read_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.node {
            // `tls:` with nothing behind it would otherwise be plain HTTP without a word.
            Node::Null => Err(NodeError::new(Problem::NoValue).at(&self.path)),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.node {
            Node::List(elements) => visitor
                .visit_seq(Elements {
                    elements: elements.iter().enumerate(),
                    path: &self.path,
                    context: self.context,
                })
                .map_err(|error| error.at(&self.path)),
            _ => Err(self.wrong_type("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.node {
            Node::Mapping(entries) => visitor
                .visit_map(Entries {
                    entries: entries.iter(),
                    value: None,
                    path: &self.path,
                    context: self.context,
                })
                .map_err(|error| error.at(&self.path)),
            _ => Err(self.wrong_type("a mapping")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        if name != SECRET_TYPE {
            return self.deserialize_map(visitor);
        }
        let path = self.path.clone();
        self.context.secrets.borrow_mut().insert(path.clone());
        // Whatever is in it, keys too, may be the secret: neither value nor place is passed on.
        self.deserialize_map(visitor)
            .map_err(|_| NodeError::new(Problem::SecretWritten).at(&path))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        // A version such as 1.2 is a number to YAML. The list of words is closed, so that reading it
        // as text admits nothing else.
        let word = match self.node {
            Node::String(text) => text.clone(),
            Node::Float(number) => number.to_string(),
            _ => return Err(self.wrong_type("a word")),
        };
        visitor
            .visit_enum(IntoDeserializer::<NodeError>::into_deserializer(word))
            .map_err(|error| error.at(&self.path))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct Elements<'a> {
    elements: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a NodePath,
    context: &'a Context,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = NodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NodeError> {
        for (index, node) in self.elements.by_ref() {
            let path = self.path.join(index);
            if self.context.skip.contains(&path) {
                continue;
            }
            let deserializer = NodeDeserializer {
                node,
                path: path.clone(),
                context: self.context,
            };
            return seed
                .deserialize(deserializer)
                .map(Some)
                .map_err(|error| error.at(&path));
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (String, Node)>,
    value: Option<(NodePath, &'a Node)>,
    path: &'a NodePath,
    context: &'a Context,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = NodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NodeError> {
        for (key, value) in self.entries.by_ref() {
            let path = self.path.join(key.as_str());
            if self.context.skip.contains(&path) {
                continue;
            }
            let deserializer = IntoDeserializer::<NodeError>::into_deserializer(key.as_str());
            let read = seed
                .deserialize(deserializer)
                .map_err(|error| error.at(&path))?;
            self.value = Some((path, value));
            return Ok(Some(read));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, NodeError> {
        let (path, node) = self
            .value
            .take()
            .ok_or_else(|| NodeError::custom("a value without a key"))?;
        let deserializer = NodeDeserializer {
            node,
            path: path.clone(),
            context: self.context,
        };
        seed.deserialize(deserializer)
            .map_err(|error| error.at(&path))
    }
}
