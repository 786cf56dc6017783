//! The tree that a document is deserialized from.
//!
//! `yaml_serde` parses the text, and what it says is what counts (`tree`). Serde then reads the
//! document types from that tree with our own deserializer (`deserialize`), whose errors are
//! values with the path at which they happened, so that every message is worded here and no value
//! is printed by accident. Where a path is in the file is another question, answered by
//! `places`.

pub(crate) mod deserialize;
mod path;
pub(crate) mod tree;
mod unique_map;

pub(crate) use path::{NodePath, Segment, node_path};
pub(crate) use tree::Node;
pub use unique_map::UniqueMap;
