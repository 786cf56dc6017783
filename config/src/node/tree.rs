//! YAML text → tree, by the parser of record.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::NodePath;

/// Deepest nesting. The documents need nine levels.
pub(crate) const MAX_DEPTH: usize = 32;
/// Most nodes, counted after aliases would have been expanded.
const MAX_NODES: usize = 200_000;

/// A value of a YAML document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Mapping(Vec<(String, Node)>),
}

/// A rule that holds in every document, and where it is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The key at this path comes again; only its first value is in the tree.
    DuplicateKey(NodePath),
    /// A key of the mapping at this path is no string; it is not in the tree.
    KeyNotString(NodePath),
}

impl Node {
    /// Parses `text`, which holds one document.
    ///
    /// # Errors
    /// What the parser says: it never quotes a value of the document.
    pub(crate) fn parse(text: &str) -> Result<(Self, Vec<Fault>), serde_yaml::Error> {
        let faults = RefCell::new(Vec::new());
        let nodes = RefCell::new(0);
        let seed = Seed {
            path: NodePath::default(),
            faults: &faults,
            nodes: &nodes,
        };
        let node = seed.deserialize(serde_yaml::Deserializer::from_str(text))?;
        Ok((node, faults.into_inner()))
    }

    /// The value of `key`, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Mapping(entries) => entries
                .iter()
                .find_map(|(own, value)| (own == key).then_some(value)),
            _ => None,
        }
    }

    /// The elements, when this is a list.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::List(elements) => elements,
            _ => &[],
        }
    }

    /// The text, when this is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// What a value is, in the operator's words, with the value where it is short.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean `{value}`"),
            Self::Integer(value) => write!(f, "the number `{value}`"),
            Self::Float(value) => write!(f, "the number `{value}`"),
            Self::String(text) if text.chars().count() > 80 => f.write_str("a long string"),
            Self::String(text) => write!(f, "the string `{text}`"),
            Self::List(_) => f.write_str("a list"),
            Self::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

struct Seed<'a> {
    path: NodePath,
    faults: &'a RefCell<Vec<Fault>>,
    nodes: &'a RefCell<usize>,
}

impl Seed<'_> {
    fn below(&self, path: NodePath) -> Self {
        Self {
            path,
            faults: self.faults,
            nodes: self.nodes,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        *self.nodes.borrow_mut() += 1;
        if *self.nodes.borrow() > MAX_NODES {
            return Err(D::Error::custom("the document has too many values"));
        }
        if self.path.segments().len() > MAX_DEPTH {
            return Err(D::Error::custom("the document is nested too deeply"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) =
            list.next_element_seed(self.below(self.path.join(elements.len())))?
        {
            elements.push(element);
        }
        Ok(Node::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key_seed(self.below(self.path.clone()))? {
            let Node::String(key) = key else {
                map.next_value_seed(self.below(self.path.clone()))?;
                self.faults
                    .borrow_mut()
                    .push(Fault::KeyNotString(self.path.clone()));
                continue;
            };
            let path = self.path.join(key.as_str());
            let value = map.next_value_seed(self.below(path.clone()))?;
            if seen.insert(key.clone()) {
                entries.push((key, value));
            } else {
                self.faults.borrow_mut().push(Fault::DuplicateKey(path));
            }
        }
        Ok(Node::Mapping(entries))
    }
}
