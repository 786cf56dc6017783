use std::collections::HashMap;

use crate::PathPattern;
use crate::path_pattern::Segment;
use crate::route_table::fold_case;

/// Path patterns, arranged so that those near another one are found without a look at all of them.
#[derive(Debug)]
pub struct PathIndex<T> {
    items: Vec<T>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// By what they are without regard to case.
    literals: HashMap<Vec<u8>, Node>,
    one: Option<Box<Node>>,
    /// Places of items.
    here: Vec<usize>,
    rest: Vec<usize>,
}

impl<T> PathIndex<T> {
    /// All of `items`, each under its pattern.
    pub fn new<'p>(items: impl IntoIterator<Item = (&'p PathPattern, T)>) -> Self {
        let mut index = Self {
            items: Vec::new(),
            root: Node::default(),
        };
        for (pattern, item) in items {
            index.root.insert(&pattern.segments, index.items.len());
            index.items.push(item);
        }
        index
    }

    /// The items with a pattern that has a path in common with `pattern`, whatever the case of their
    /// literals, in the order in which they were given; itself, too, where it is among them.
    pub fn near(&self, pattern: &PathPattern) -> Vec<&T> {
        let mut found = Vec::new();
        self.root.collect(&pattern.segments, &mut found);
        found.sort_unstable();
        let items = found.into_iter();
        items.filter_map(|place| self.items.get(place)).collect()
    }
}

impl Node {
    fn insert(&mut self, segments: &[Segment], item: usize) {
        match segments {
            [] => self.here.push(item),
            [Segment::Rest, ..] => self.rest.push(item),
            [Segment::One, remaining @ ..] => {
                let one = self.one.get_or_insert_default();
                one.insert(remaining, item);
            }
            [Segment::Literal(literal), remaining @ ..] => {
                let folded = fold_case(literal.as_bytes());
                let node = self.literals.entry(folded).or_default();
                node.insert(remaining, item);
            }
        }
    }

    fn collect(&self, segments: &[Segment], found: &mut Vec<usize>) {
        found.extend(&self.rest);
        match segments {
            [] => found.extend(&self.here),
            [Segment::Literal(literal), remaining @ ..] => {
                let literal = self.literals.get(&fold_case(literal.as_bytes()));
                for node in literal.into_iter().chain(self.one.as_deref()) {
                    node.collect(remaining, found);
                }
            }
            [Segment::One, remaining @ ..] => {
                for node in self.literals.values().chain(self.one.as_deref()) {
                    node.collect(remaining, found);
                }
            }
            [Segment::Rest, ..] => {
                found.extend(&self.here);
                for node in self.literals.values().chain(self.one.as_deref()) {
                    node.collect(segments, found);
                }
            }
        }
    }
}
