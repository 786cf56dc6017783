//! Where each key and value is in the text.
//!
//! A second parser makes this index from its events. It only locates: what a document says is
//! decided by the parser of record ([`crate::node`]), and a path that the two see differently is
//! shown at the nearest place that is known. It refuses what the parser of record would accept or
//! take long to refuse: anchors, aliases, tags, merge keys, a second document, deep nesting.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::diagnostic::Place;
use crate::node::NodePath;
use crate::node::tree::MAX_DEPTH;

/// The places of a document.
#[derive(Debug, Default)]
pub(crate) struct Places {
    entries: BTreeMap<NodePath, Entry>,
    /// Keys that come again in their mapping, with each further place.
    repeated: BTreeMap<NodePath, Vec<Place>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// `None` for an element of a list, and for the document itself.
    key: Option<Place>,
    /// A scalar in full; of a mapping or list only the start is a useful place.
    value: Place,
    is_scalar: bool,
    last_line: usize,
}

/// Something that is refused before the document is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) place: Place,
}

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    Syntax(String),
    Anchor,
    Alias,
    Tag,
    MergeKey,
    SecondDocument,
    TooDeep,
}

impl Places {
    /// Reads the places of `text`, and whatever in it is refused.
    pub(crate) fn read(text: &str) -> (Self, Vec<Refusal>) {
        let mut reader = Reader::default();
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let outcome = match event {
                Ok((event, span)) => reader.take(&event, span),
                Err(error) => Err(Refusal {
                    kind: RefusalKind::Syntax(error.info().to_owned()),
                    place: start_of(*error.marker()),
                }),
            };
            if let Err(refusal) = outcome {
                reader.refusals.push(refusal);
                break;
            }
        }
        (reader.places, reader.refusals)
    }

    /// Where the value at `path` is, or else the nearest thing around it. For a mapping or list that
    /// is its key, which is what a reader looks for.
    pub(crate) fn of(&self, path: &NodePath) -> Place {
        match self.entries.get(path) {
            Some(Entry {
                is_scalar: false,
                key: Some(key),
                ..
            }) => *key,
            Some(entry) => entry.value,
            None => path
                .parent()
                .map_or(Place::START, |parent| self.of(&parent)),
        }
    }

    /// Where the key at the end of `path` is.
    pub(crate) fn of_key(&self, path: &NodePath) -> Place {
        self.entries
            .get(path)
            .and_then(|entry| entry.key)
            .unwrap_or_else(|| self.of(path))
    }

    /// The lines of the value at `path`.
    pub(crate) fn lines_of(&self, path: &NodePath) -> std::ops::RangeInclusive<usize> {
        self.entries.get(path).map_or(1..=usize::MAX, |entry| {
            entry.key.map_or(entry.value.line, |key| key.line)..=entry.last_line
        })
    }

    /// Where the key at the end of `path` comes again.
    pub(crate) fn repetitions(&self, path: &NodePath) -> &[Place] {
        self.repeated.get(path).map_or(&[], Vec::as_slice)
    }
}

fn start_of(marker: Marker) -> Place {
    Place::at(marker.line(), marker.col() + 1)
}

fn place_of(span: Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
        end_line: span.end.line(),
        end_column: span.end.col() + 1,
    }
}

/// A mapping or list that has begun and not ended.
#[derive(Debug)]
enum Open {
    List {
        path: NodePath,
        next: usize,
    },
    /// `key` is the one whose value comes next.
    Mapping {
        path: NodePath,
        key: Option<(NodePath, Place, bool)>,
    },
}

#[derive(Debug, Default)]
struct Reader {
    places: Places,
    refusals: Vec<Refusal>,
    open: Vec<Open>,
    documents: usize,
}

impl Reader {
    fn take(&mut self, event: &Event<'_>, span: Span) -> Result<(), Refusal> {
        let refusal = |kind| Refusal {
            kind,
            place: place_of(span),
        };
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(refusal(RefusalKind::SecondDocument));
                }
            }
            Event::Alias(_) => {
                self.refusals.push(refusal(RefusalKind::Alias));
                self.scalar("*", ScalarStyle::Plain, span);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(*anchor, tag.is_some(), span);
                self.scalar(text, *style, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(*anchor, tag.is_some(), span);
                let path = self.begin(span);
                self.open.push(Open::List { path, next: 0 });
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(*anchor, tag.is_some(), span);
                let path = self.begin(span);
                self.open.push(Open::Mapping { path, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if self.open.len() > MAX_DEPTH {
            return Err(refusal(RefusalKind::TooDeep));
        }
        Ok(())
    }

    fn refuse_properties(&mut self, anchor: usize, has_tag: bool, span: Span) {
        for (kind, is_there) in [
            (RefusalKind::Anchor, anchor != 0),
            (RefusalKind::Tag, has_tag),
        ] {
            if is_there {
                let place = start_of(span.start);
                self.refusals.push(Refusal { kind, place });
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) {
        let place = place_of(span);
        if let Some(Open::Mapping {
            path,
            key: key @ None,
        }) = self.open.last_mut()
        {
            if text == "<<" && style == ScalarStyle::Plain {
                self.refusals.push(Refusal {
                    kind: RefusalKind::MergeKey,
                    place,
                });
            }
            let path = path.join(text);
            let is_repeated = self.places.entries.contains_key(&path);
            if is_repeated {
                self.places
                    .repeated
                    .entry(path.clone())
                    .or_default()
                    .push(place);
            }
            *key = Some((path, place, is_repeated));
            return;
        }
        self.value(place, true);
    }

    /// A mapping or list begins; the result is its path.
    fn begin(&mut self, span: Span) -> NodePath {
        // A mapping or list as a key has no path; the parser of record refuses it.
        if let Some(Open::Mapping {
            path,
            key: key @ None,
        }) = self.open.last_mut()
        {
            let path = path.join("?");
            *key = Some((path.clone(), place_of(span), true));
            return path;
        }
        self.value(start_of(span.start), false)
    }

    /// A value begins at `place`; the result is its path.
    fn value(&mut self, place: Place, is_scalar: bool) -> NodePath {
        let (path, key, is_repeated) = match self.open.last_mut() {
            None => (NodePath::default(), None, false),
            Some(Open::List { path, next }) => {
                let path = path.join(*next);
                *next += 1;
                (path, None, false)
            }
            Some(Open::Mapping { path, key }) => match key.take() {
                Some((path, key, is_repeated)) => (path, Some(key), is_repeated),
                None => (path.clone(), None, true),
            },
        };
        if !is_repeated {
            let entry = Entry {
                key,
                value: place,
                is_scalar,
                last_line: place.end_line,
            };
            self.places.entries.insert(path.clone(), entry);
        }
        path
    }

    fn end(&mut self, span: Span) {
        if let Some(Open::List { path, .. } | Open::Mapping { path, .. }) = self.open.pop()
            && let Some(entry) = self.places.entries.get_mut(&path)
        {
            entry.last_line = entry.last_line.max(span.end.line());
        }
    }
}
