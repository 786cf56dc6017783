use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::path::Escapes;
use crate::path_pattern::Segment;
use crate::{Access, Denial, Host, Method, MethodSet, Request, Route, RouteId};

/// Two routes that some request belongs to with equal weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteConflict {
    /// The earlier one.
    pub first: RouteId,
    /// The later one.
    pub second: RouteId,
}

/// Finds the route of a request: an exact host before any host; then, segment by segment, a literal
/// before `{name}` before `{*rest}`. The most specific path owns the request: the method is looked
/// at only then, so that no wider route takes over a method that the owner left out.
///
/// A service may compare in another way: without regard to case, or without decoding. Where that leads
/// to another route, the request could be judged for one and served as the other, so it is refused. It
/// may take a slash at the end for a part of the path, or want one before `{*rest}`, or take what follows a dot
/// at the end for a format: where that leads to a route that needs something else of its callers, the request
/// is refused, too.
#[derive(Debug)]
pub struct RouteTable {
    by_host: HashMap<Host, Node>,
    any_host: Node,
    /// Some literal has letters that another case of them could be written for.
    has_cases: bool,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, Node>,
    /// Literals by what they are without regard to case.
    by_fold: HashMap<Vec<u8>, Vec<Box<[u8]>>>,
    one: Option<Box<Node>>,
    /// Routes of the pattern that ends here, with disjoint methods.
    here: Vec<Arc<Route>>,
    /// Routes of the pattern that ends here with `{*rest}`.
    rest: Vec<Arc<Route>>,
}

impl RouteTable {
    /// A table of these routes.
    ///
    /// # Errors
    /// Each pair of routes that conflict, as [`Route::conflicts_with`] has it.
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> Result<Self, Vec<RouteConflict>> {
        let mut table = Self {
            by_host: HashMap::new(),
            any_host: Node::default(),
            has_cases: false,
        };
        let mut conflicts = Vec::new();
        for route in routes {
            let mut node = match &route.host {
                Some(host) => table.by_host.entry(host.clone()).or_default(),
                None => &mut table.any_host,
            };
            let mut takes_rest = false;
            for segment in &route.path.segments {
                match segment {
                    Segment::Literal(literal) => {
                        table.has_cases |= has_cases(literal.as_bytes());
                        node = node.literal(literal.as_bytes());
                    }
                    Segment::One => node = node.one.get_or_insert_default(),
                    Segment::Rest => takes_rest = true,
                }
            }
            let siblings = if takes_rest {
                &mut node.rest
            } else {
                &mut node.here
            };
            conflicts.extend(
                siblings
                    .iter()
                    .filter(|sibling| sibling.methods.intersects(route.methods))
                    .map(|sibling| RouteConflict {
                        first: sibling.id,
                        second: route.id,
                    }),
            );
            siblings.push(route);
        }
        if conflicts.is_empty() {
            Ok(table)
        } else {
            Err(conflicts)
        }
    }

    /// The route that `request` belongs to.
    ///
    /// # Errors
    /// [`Denial::RouteNotFound`]; [`Denial::PathAmbiguous`] when a service could take the request for
    /// one of another route; [`Denial::MethodNotAllowed`] when the path is known.
    pub fn find(&self, request: &Request<'_>) -> Result<&Arc<Route>, Denial> {
        let candidates = self.find_path(request).map_err(|unclear| match unclear {
            Unclear::NotFound => Denial::RouteNotFound,
            Unclear::Contested { .. } => Denial::PathAmbiguous,
        })?;
        for_method(candidates, request.method).ok_or_else(|| {
            let allow = candidates
                .iter()
                .fold(MethodSet::default(), |allow, route| {
                    allow.union(route.methods)
                });
            Denial::MethodNotAllowed { allow }
        })
    }

    /// Why [`RouteTable::find`] refuses a path as ambiguous: the route that it belongs to here, and one that
    /// a service could take it for. `None` where it does not.
    #[must_use]
    pub fn contest(&self, request: &Request<'_>) -> Option<[&Arc<Route>; 2]> {
        match self.find_path(request) {
            Err(Unclear::Contested { judged, other }) => {
                let shown = |routes| for_method(routes, request.method).or(routes.first());
                Some([shown(judged)?, shown(other)?])
            }
            Ok(_) | Err(Unclear::NotFound) => None,
        }
    }

    /// Routes of the most specific pattern that the host and path belong to.
    fn find_path(&self, request: &Request<'_>) -> Result<&[Arc<Route>], Unclear<'_>> {
        let path = &request.path;
        let mut segments: Segments<'_> = path.segments().map(Presented::new).collect();
        let found = self.look_up(request.host, &segments, Reading::OURS);
        let found = found.ok_or(Unclear::NotFound)?;
        let is_folded_otherwise =
            self.has_cases || segments.iter().any(|segment| has_cases(&segment.decoded));
        if path.has_needless_escapes() {
            for (segment, escapes) in segments.iter_mut().zip(path.escapes()) {
                segment.escapes = escapes;
            }
        }
        // Ours is the first of them.
        let readings = [
            Decoding::Everything,
            Decoding::ButReserved,
            Decoding::Nothing,
        ]
        .into_iter()
        .filter(|decoding| *decoding == Decoding::Everything || path.has_needless_escapes())
        .flat_map(|decoding| [(false, decoding), (true, decoding)])
        .filter(|(folds, _)| !folds || is_folded_otherwise)
        .map(|(folds, decoding)| Reading {
            folds,
            decoding,
            ..Reading::OURS
        });
        let contested = |other| Unclear::Contested {
            judged: found,
            other,
        };
        let read_otherwise = readings
            .clone()
            .skip(1)
            .filter_map(|reading| self.look_up(request.host, &segments, reading))
            .find(|other| !std::ptr::eq(*other, found));
        if let Some(other) = read_otherwise {
            return Err(contested(other));
        }
        // Whether a slash at the end is part of a path is a matter of taste, so it is refused only where
        // it is a matter of who may call.
        let takes_nothing_more = found
            .first()
            .is_some_and(|route| route.path.segments.len() > segments.len());
        let has_end = path.has_trailing_slash() || takes_nothing_more;
        let ends = [End::WithRest, End::WithoutRest]
            .into_iter()
            .filter(|end| *end != End::WithRest || path.has_trailing_slash());
        let by_end = readings
            .clone()
            .filter(|_| has_end && !segments.is_empty())
            .flat_map(|reading| ends.clone().map(move |end| Reading { end, ..reading }))
            .filter_map(|reading| self.look_up(request.host, &segments, reading));
        // Whoever wrote the end of a segment into a route has said whose it is.
        let is_written = found
            .first()
            .and_then(|route| route.path.segments.get(segments.len().checked_sub(1)?))
            .is_some_and(|segment| matches!(segment, Segment::Literal(_)));
        let others = match is_written {
            true => Vec::new(),
            false => without_format(&segments),
        };
        let by_format = others.iter().flat_map(|segments| {
            let readings = readings.clone();
            readings.filter_map(|reading| self.look_up(request.host, segments, reading))
        });
        let served_otherwise = by_end
            .chain(by_format)
            .find(|other| needs_more(other, found, request.method));
        if let Some(other) = served_otherwise {
            return Err(contested(other));
        }
        Ok(found)
    }

    fn look_up(
        &self,
        host: Option<&Host>,
        segments: &[Presented<'_>],
        reading: Reading,
    ) -> Option<&[Arc<Route>]> {
        let for_host = host.and_then(|host| self.by_host.get(host));
        for_host
            .and_then(|node| node.find(segments, reading))
            .or_else(|| self.any_host.find(segments, reading))
    }
}

/// Why a path has no routes.
enum Unclear<'t> {
    NotFound,
    /// It has some, and a service could take it for one of others.
    Contested {
        judged: &'t [Arc<Route>],
        other: &'t [Arc<Route>],
    },
}

/// Whether a caller of `method` needs something for one of `others` that is not needed for `found`.
fn needs_more(others: &[Arc<Route>], found: &[Arc<Route>], method: Option<Method>) -> bool {
    let access = |routes| access(routes, method);
    match (access(others), access(found)) {
        (Some(needed @ Access::Protected(_)), Some(judged)) => needed != judged,
        (None | Some(Access::Public), _) | (_, None) => false,
    }
}

fn access(routes: &[Arc<Route>], method: Option<Method>) -> Option<&Access> {
    for_method(routes, method).map(|route| &route.access)
}

fn for_method(routes: &[Arc<Route>], method: Option<Method>) -> Option<&Arc<Route>> {
    let method = method?;
    routes.iter().find(|route| route.methods.contains(method))
}

/// How a path is compared with patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// Without regard to case, where none fits exactly.
    folds: bool,
    decoding: Decoding,
    end: End,
}

/// What is decoded before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoding {
    Everything,
    /// As ECMAScript's `decodeURI`.
    ButReserved,
    Nothing,
}

/// Which patterns a path with nothing left of it may belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Those that end here, then those that go on with `{*rest}`, which may be nothing.
    Either,
    /// A slash is left, which `{*rest}` takes, and nothing else does.
    WithRest,
    /// `{*rest}` has to be something.
    WithoutRest,
}

impl Reading {
    const OURS: Self = Self {
        folds: false,
        decoding: Decoding::Everything,
        end: End::Either,
    };
}

type Segments<'a> = Vec<Presented<'a>>;

/// Dots of a segment that may begin a format; of more, the last one may, too.
const FORMAT_DOTS: usize = 8;

/// The path as services see it that take what follows a dot of the last segment for a format: the last dot
/// to Rails, any to the suffix patterns of Spring before 5.3. That they have not decoded it is allowed for.
fn without_format<'s>(segments: &'s [Presented<'_>]) -> Vec<Segments<'s>> {
    let Some((last, before)) = segments.split_last() else {
        return Vec::new();
    };
    let dots = |skipped| {
        let bytes = last.decoded.iter().enumerate().skip(1);
        let dots = bytes.filter(|(_, byte)| **byte == b'.');
        dots.map(|(at, _)| at).skip(skipped)
    };
    dots(0)
        .take(FORMAT_DOTS)
        .chain(dots(FORMAT_DOTS).last())
        .filter_map(|dot| last.decoded.get(..dot))
        .map(|stem| {
            let before = before.iter().map(|segment| Presented {
                decoded: segment.decoded.as_ref().into(),
                escapes: segment.escapes,
            });
            before.chain([Presented::new(stem.into())]).collect()
        })
        .collect()
}

/// A segment of a request.
#[derive(Debug)]
struct Presented<'a> {
    decoded: Cow<'a, [u8]>,
    /// To whoever does not decode them it is no literal.
    escapes: Escapes,
}

impl<'a> Presented<'a> {
    const fn new(decoded: Cow<'a, [u8]>) -> Self {
        Self {
            decoded,
            escapes: Escapes {
                are_needless: false,
                are_reserved: false,
            },
        }
    }
}

/// Whether `text` has letters that are not lower case, or that may have a case of their own.
fn has_cases(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
}

/// What all cases of `text` are the same as. In both directions, since there are letters with more than
/// two: `\u{17F}` is an `s` to some, `\u{212A}` a `k`, `\u{130}` an `i`.
pub(crate) fn fold_case(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_ascii() => text
            .replace('\u{130}', "i")
            .replace('\u{1E9E}', "ß")
            .to_uppercase()
            .to_lowercase()
            .into_bytes(),
        _ => text.to_ascii_lowercase(),
    }
}

impl Node {
    /// The node behind `literal`.
    fn literal(&mut self, literal: &[u8]) -> &mut Self {
        if !self.literals.contains_key(literal) {
            let same = self.by_fold.entry(fold_case(literal)).or_default();
            same.push(literal.into());
        }
        self.literals.entry(literal.into()).or_default()
    }

    /// Each node belongs to one depth, so a look-up visits it once at most.
    fn find(&self, segments: &[Presented<'_>], reading: Reading) -> Option<&[Arc<Route>]> {
        let (may_end, may_have_no_rest) = match (segments, reading.end) {
            ([], End::WithRest) => (false, true),
            ([], End::WithoutRest) => (true, false),
            _ => (true, true),
        };
        let found = match segments.split_first() {
            None => Some(self.here.as_slice()).filter(|here| may_end && !here.is_empty()),
            Some((segment, remaining)) => {
                self.find_literal(segment, remaining, reading).or_else(|| {
                    self.one
                        .as_ref()
                        .and_then(|node| node.find(remaining, reading))
                })
            }
        };
        found.or_else(|| {
            Some(self.rest.as_slice()).filter(|rest| may_have_no_rest && !rest.is_empty())
        })
    }

    fn find_literal(
        &self,
        segment: &Presented<'_>,
        remaining: &[Presented<'_>],
        reading: Reading,
    ) -> Option<&[Arc<Route>]> {
        let is_other_text = match reading.decoding {
            Decoding::Everything => false,
            Decoding::ButReserved => segment.escapes.are_reserved,
            Decoding::Nothing => segment.escapes.are_needless,
        };
        if is_other_text {
            return None;
        }
        let exact = self.literals.get(segment.decoded.as_ref());
        let found = exact.and_then(|node| node.find(remaining, reading));
        if found.is_some() || !reading.folds {
            return found;
        }
        let same = self.by_fold.get(&fold_case(&segment.decoded))?;
        same.iter()
            .filter_map(|literal| self.literals.get(literal))
            .find_map(|node| node.find(remaining, reading))
    }
}

#[cfg(test)]
pub(crate) mod tests;
