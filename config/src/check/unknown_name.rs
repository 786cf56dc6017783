//! A name that is used has to be defined.

use crate::diagnostic::{Diagnostic, codes};
use crate::node::{NodePath, node_path};
use crate::read::Read;
use crate::source::Source;
use crate::suggest;

/// The names of one kind of thing that others may refer to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// Each with its place, where there is a file that shows it.
    names: Vec<(String, Option<String>)>,
    /// A definition whose name cannot be read may be the one that is meant.
    is_complete: bool,
}

impl Names {
    /// The names in the list `key`, also of entries that are wrong otherwise: what refers to one of
    /// them is not wrong because of that.
    pub(crate) fn of_list<T>(read: &Read<T>, key: &str) -> Self {
        let source = &read.source;
        let list = source.node.get(key);
        let elements = list.map(|list| list.elements()).unwrap_or_default();
        let mut names = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            if let Some(name) = element.get("name").and_then(|name| name.as_str()) {
                let place = source.place_name(&node_path![key, index, "name"]);
                names.push((name.to_owned(), Some(place)));
            }
        }
        // A list that is not there may be there under a misspelt key.
        let is_misspelt =
            list.is_none() && read.left_out.iter().any(|out| out.segments().len() == 1);
        let is_complete = !source.is_partial && !is_misspelt && names.len() == elements.len();
        Self { names, is_complete }
    }

    /// These names and no other.
    pub(crate) fn known(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            names: names.into_iter().map(|name| (name, None)).collect(),
            is_complete: true,
        }
    }

    /// The position of the definition.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(known, _)| known == name)
    }

    /// Checks a use of a name.
    pub(crate) fn check_use(
        &self,
        source: &Source,
        path: &NodePath,
        user: &str,
        kind: &str,
        name: &str,
    ) -> Option<Diagnostic> {
        if !self.is_complete || self.position(name).is_some() {
            return None;
        }
        let message = format!("{user} names {kind} `{name}`, which is not defined");
        let similar = suggest::closest(name, self.names.iter().map(|(name, _)| name.as_str()));
        let place = self
            .names
            .iter()
            .find(|(name, _)| Some(name.as_str()) == similar)
            .and_then(|(_, place)| place.as_ref());
        let help = match (similar, place) {
            (Some(similar), Some(place)) => {
                format!("did you mean `{similar}`, defined at {place}?")
            }
            (Some(similar), None) => format!("did you mean `{similar}`?"),
            (None, _) if self.names.is_empty() => format!("no {kind} is defined"),
            (None, _) => format!(
                "defined are {}",
                suggest::list(self.names.iter().map(|(name, _)| name.as_str()))
            ),
        };
        Some(
            source
                .error(codes::UNKNOWN_NAME, path, message)
                .with_help(help),
        )
    }
}
