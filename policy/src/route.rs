use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::path::Escapes;
use crate::{Denial, Host, Method, MethodSet, Request, Requirement};

/// Place of a route in its table; an index for whatever else is kept for each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// The route at `index`.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Index of the route.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which requests a route is for, and what they need.
#[derive(Debug)]
pub struct Route {
    /// Place in the table.
    pub id: RouteId,
    /// Unique name.
    pub name: Box<str>,
    /// The team that answers for it.
    pub owner: Box<str>,
    /// The only host it is for; `None` is any.
    pub host: Option<Host>,
    /// The paths it is for.
    pub path: PathPattern,
    /// The methods it is for.
    pub methods: MethodSet,
    /// Who may call.
    pub access: Access,
}

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anybody, with or without a token. No token is looked at.
    Public,
    /// Whoever presents an access token that meets the requirement.
    Protected(Requirement),
}

impl Route {
    /// Whether some host and path belong to both routes, whatever their methods.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares_hosts_with(other) && self.path.overlaps(&other.path)
    }

    /// Whether some service may take a request of one of the routes for one of the other, as
    /// [`RouteTable::find`] has it: they overlap, whatever the case of their literals.
    #[must_use]
    pub fn can_be_mistaken_for(&self, other: &Self) -> bool {
        self.shares_hosts_with(other)
            && self.path.meets(&other.path, |mine, theirs| {
                fold_case(mine.as_bytes()) == fold_case(theirs.as_bytes())
            })
    }

    fn shares_hosts_with(&self, other: &Self) -> bool {
        match (&self.host, &other.host) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether some request belongs to both routes with equal weight, so that neither wins.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.shares_path_with(other) && self.methods.intersects(other.methods)
    }

    /// Whether some request belongs to both routes, and this one wins.
    #[must_use]
    pub fn takes_from(&self, other: &Self) -> bool {
        self.overlaps(other)
            && match (&self.host, &other.host) {
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(_), Some(_)) | (None, None) => self.path.is_before(&other.path),
            }
    }

    /// Whether the two are for the same hosts and paths, whatever their methods.
    #[must_use]
    pub fn shares_path_with(&self, other: &Self) -> bool {
        self.host == other.host && self.path.has_shape_of(&other.path)
    }

    /// Whether `wider` would have been asked for some requests of an exact host, had this route not
    /// been more specific by its host alone.
    #[must_use]
    pub fn shadows_by_host(&self, wider: &Self) -> bool {
        self.host.is_some()
            && wider.host.is_none()
            && self.path.overlaps(&wider.path)
            && !self.path.is_within(&wider.path)
    }
}

/// The paths that a route is for: literal segments, `{name}` for exactly one segment, and at the
/// end `{*rest}` for what remains, which may be nothing. Literals are compared with the decoded
/// segments of the request, byte for byte; a trailing slash of the request makes no difference. What
/// comes of a service that compares in another way is [`RouteTable::find`]'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// Any one segment; its name is for people.
    One,
    /// What remains; only at the end.
    Rest,
}

impl Segment {
    fn meets(&self, other: &Self, is_same: impl Fn(&str, &str) -> bool) -> bool {
        match (self, other) {
            (Self::Literal(mine), Self::Literal(theirs)) => is_same(mine, theirs),
            (Self::One | Self::Rest, _) | (_, Self::One | Self::Rest) => true,
        }
    }
}

impl PathPattern {
    /// Whether some path belongs to both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.meets(other, |mine, theirs| mine == theirs)
    }

    fn meets(&self, other: &Self, is_same: impl Fn(&str, &str) -> bool) -> bool {
        let (mut mine, mut theirs) = (self.segments.iter(), other.segments.iter());
        loop {
            match (mine.next(), theirs.next()) {
                (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) | (None, None) => return true,
                (Some(mine), Some(theirs)) if mine.meets(theirs, &is_same) => {}
                (Some(_), _) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether a path that belongs to both patterns is this one's: where they first differ, it is
    /// the more specific one.
    fn is_before(&self, other: &Self) -> bool {
        // A pattern that ends is asked before one that would take nothing more.
        let rank = |segment: Option<&Segment>| match segment {
            None | Some(Segment::Literal(_)) => 0,
            Some(Segment::One) => 1,
            Some(Segment::Rest) => 2,
        };
        let longest = self.segments.len().max(other.segments.len());
        (0..longest)
            .map(|at| (rank(self.segments.get(at)), rank(other.segments.get(at))))
            .find(|(mine, theirs)| mine != theirs)
            .is_some_and(|(mine, theirs)| mine < theirs)
    }

    /// The first segment, when it is a literal: two patterns with different ones share no path.
    #[must_use]
    pub fn first_literal(&self) -> Option<&str> {
        match self.segments.first() {
            Some(Segment::Literal(literal)) => Some(literal),
            Some(Segment::One | Segment::Rest) | None => None,
        }
    }

    /// Whether every path of this pattern belongs to `wider`.
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        let (mut mine, mut theirs) = (self.segments.iter(), wider.segments.iter());
        loop {
            match (mine.next(), theirs.next()) {
                (_, Some(Segment::Rest)) | (None, None) => return true,
                (Some(Segment::Literal(mine)), Some(Segment::Literal(theirs)))
                    if mine == theirs => {}
                (Some(Segment::Literal(_) | Segment::One), Some(Segment::One)) => {}
                (Some(_), _) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether the two differ in the names of their parameters at most.
    fn has_shape_of(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Text that is no path pattern, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum InvalidPathPattern {
    #[error("a path pattern starts with `/`")]
    NotAbsolute,
    #[error("a path pattern does not end with `/`: a trailing slash of the request matches anyway")]
    TrailingSlash,
    #[error("a path pattern has no empty segment (`//`)")]
    EmptySegment,
    #[error("a path pattern has no `.` or `..` segment: no request with one is accepted")]
    DotSegment,
    #[error("`{0}` is written decoded in a path pattern, and cannot be part of a segment")]
    ForbiddenCharacter(char),
    #[error("`{{*{0}}}` takes what remains, so it has to be the last segment")]
    RestNotLast(Box<str>),
    #[error(
        "a parameter is a whole segment: `{{name}}` or `{{*rest}}`, with a name of letters, digits and `_`"
    )]
    InvalidParameter,
    #[error("two parameters are called `{0}`")]
    RepeatedParameter(Box<str>),
}

impl FromStr for PathPattern {
    type Err = InvalidPathPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = text
            .strip_prefix('/')
            .ok_or(InvalidPathPattern::NotAbsolute)?;
        let mut segments = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        if !inner.is_empty() {
            if inner.ends_with('/') && !inner.ends_with("//") {
                return Err(InvalidPathPattern::TrailingSlash);
            }
            for segment in inner.split('/') {
                if let Some(Segment::Rest) = segments.last() {
                    return Err(InvalidPathPattern::RestNotLast(
                        names.last().copied().unwrap_or_default().into(),
                    ));
                }
                segments.push(parse_segment(segment, &mut names)?);
            }
        }
        Ok(Self {
            text: text.into(),
            segments,
        })
    }
}

fn parse_segment<'a>(
    segment: &'a str,
    names: &mut Vec<&'a str>,
) -> Result<Segment, InvalidPathPattern> {
    match segment {
        "" => return Err(InvalidPathPattern::EmptySegment),
        "." | ".." => return Err(InvalidPathPattern::DotSegment),
        _ => {}
    }
    if segment.contains(['{', '}']) {
        let name = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or(InvalidPathPattern::InvalidParameter)?;
        let (name, parsed) = match name.strip_prefix('*') {
            Some(name) => (name, Segment::Rest),
            None => (name, Segment::One),
        };
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(InvalidPathPattern::InvalidParameter);
        }
        if names.contains(&name) {
            return Err(InvalidPathPattern::RepeatedParameter(name.into()));
        }
        names.push(name);
        return Ok(parsed);
    }
    match segment
        .chars()
        .find(|c| c.is_control() || matches!(c, '%' | '\\' | ';' | '?' | '#'))
    {
        Some(forbidden) => Err(InvalidPathPattern::ForbiddenCharacter(forbidden)),
        None => Ok(Segment::Literal(segment.into())),
    }
}

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
/// may take a slash at the end for a part of the path, or want one before `{*rest}`: where that leads to a
/// route that needs something else of its callers, the request is refused, too.
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
        let candidates = self.find_path(request)?;
        let is_for_method = |route: &&Arc<Route>| {
            request
                .method
                .is_some_and(|method| route.methods.contains(method))
        };
        candidates.iter().find(is_for_method).ok_or_else(|| {
            let allow = candidates
                .iter()
                .fold(MethodSet::default(), |allow, route| {
                    allow.union(route.methods)
                });
            Denial::MethodNotAllowed { allow }
        })
    }

    /// Routes of the most specific pattern that the host and path belong to.
    fn find_path(&self, request: &Request<'_>) -> Result<&[Arc<Route>], Denial> {
        let path = &request.path;
        let mut segments: Segments<'_> = path.segments().map(Presented::new).collect();
        let found = self.look_up(request.host, &segments, Reading::OURS);
        let found = found.ok_or(Denial::RouteNotFound)?;
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
        let is_read_otherwise = readings
            .clone()
            .skip(1)
            .filter_map(|reading| self.look_up(request.host, &segments, reading))
            .any(|other| !std::ptr::eq(other, found));
        if is_read_otherwise {
            return Err(Denial::PathAmbiguous);
        }
        // Whether a slash at the end is part of a path is a matter of taste, so it is refused only where
        // it is a matter of who may call.
        let takes_nothing_more = found
            .first()
            .is_some_and(|route| route.path.segments.len() > segments.len());
        let has_end = path.has_trailing_slash() || takes_nothing_more;
        // To some a slash that is there is still not enough for `{*rest}`, but no part of `{name}` either.
        let is_there = [false, true];
        let slashes = is_there
            .into_iter()
            .filter(|is_there| !is_there || path.has_trailing_slash())
            .map(|is_there| EndSlash::Counts { is_there });
        let is_served_otherwise = readings
            .filter(|_| has_end && !segments.is_empty())
            .flat_map(|reading| {
                slashes
                    .clone()
                    .map(move |slash| Reading { slash, ..reading })
            })
            .filter_map(|reading| self.look_up(request.host, &segments, reading))
            .any(|other| needs_more(other, found, request.method));
        if is_served_otherwise {
            return Err(Denial::PathAmbiguous);
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

/// Whether a caller of `method` needs something for one of `others` that is not needed for `found`.
fn needs_more(others: &[Arc<Route>], found: &[Arc<Route>], method: Option<Method>) -> bool {
    let access = |routes| access(routes, method);
    match (access(others), access(found)) {
        (Some(needed @ Access::Protected(_)), Some(judged)) => needed != judged,
        (None | Some(Access::Public), _) | (_, None) => false,
    }
}

fn access(routes: &[Arc<Route>], method: Option<Method>) -> Option<&Access> {
    routes
        .iter()
        .find(|route| method.is_some_and(|method| route.methods.contains(method)))
        .map(|route| &route.access)
}

/// How a path is compared with patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// Without regard to case, where none fits exactly.
    folds: bool,
    decoding: Decoding,
    slash: EndSlash,
}

/// What is decoded before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoding {
    Everything,
    /// As ECMAScript's `decodeURI`.
    ButReserved,
    Nothing,
}

/// What a slash at the end of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndSlash {
    /// Nothing, and `{*rest}` may be nothing.
    MakesNoDifference,
    /// The beginning of what `{*rest}` takes, which other patterns do not end with.
    Counts { is_there: bool },
}

impl Reading {
    const OURS: Self = Self {
        folds: false,
        decoding: Decoding::Everything,
        slash: EndSlash::MakesNoDifference,
    };
}

type Segments<'a> = Vec<Presented<'a>>;

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
fn fold_case(text: &[u8]) -> Vec<u8> {
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
        let (may_end, may_have_no_rest) = match (segments, reading.slash) {
            ([], EndSlash::Counts { is_there }) => (!is_there, is_there),
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
mod tests;
