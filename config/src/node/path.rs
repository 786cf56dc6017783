//! Where something is in a document: `routes[1].match.path`.

use std::fmt;

/// The keys and indices that lead from the top of a document to one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct NodePath(Vec<Segment>);

/// One step of a [`NodePath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl NodePath {
    /// One step further down.
    #[must_use]
    pub(crate) fn join(&self, segment: impl Into<Segment>) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment.into());
        Self(segments)
    }

    /// One step back up; `None` at the top.
    #[must_use]
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }

    /// The steps, from the top.
    #[must_use]
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is `other` or something below it.
    #[must_use]
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The last step, when it is a key.
    #[must_use]
    pub(crate) fn last_key(&self) -> Option<&str> {
        match self.0.last()? {
            Segment::Key(key) => Some(key),
            Segment::Index(_) => None,
        }
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl FromIterator<Segment> for NodePath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

/// `node_path!["routes", index, "match"]`: a [`NodePath`] from keys and indices.
macro_rules! node_path {
    ($($segment:expr),* $(,)?) => {
        <$crate::node::NodePath as ::core::iter::FromIterator<$crate::node::Segment>>::from_iter(
            [$($crate::node::Segment::from($segment)),*],
        )
    };
}
pub(crate) use node_path;
