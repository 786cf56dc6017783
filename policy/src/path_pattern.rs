use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The paths that a route is for: literal segments, `{name}` for exactly one segment, and at the
/// end `{*rest}` for what remains, which may be nothing. Literals are compared with the decoded
/// segments of the request, byte for byte; a trailing slash of the request makes no difference. What
/// comes of a service that compares in another way is [`RouteTable::find`](crate::RouteTable::find)'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    pub(crate) segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
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

    pub(crate) fn meets(&self, other: &Self, is_same: impl Fn(&str, &str) -> bool) -> bool {
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
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        // A pattern that ends is asked before one that would take nothing more.
        let rank = |segment: Option<&Segment>| match segment {
            None | Some(Segment::Literal(_)) => 0,
            Some(Segment::One) => 1,
            Some(Segment::Rest) => 2,
        };
        let longest = self.segments.len().max(other.segments.len());
        (0..longest)
            .map(|at| rank(self.segments.get(at)).cmp(&rank(other.segments.get(at))))
            .find(|order| order.is_ne())
            .is_some_and(Ordering::is_lt)
    }

    /// The pattern of the paths that belong to both, if there are any.
    #[must_use]
    pub fn meeting(&self, other: &Self) -> Option<Self> {
        if !self.overlaps(other) {
            return None;
        }
        let (mut ones, mut others) = (self.segments.as_slice(), other.segments.as_slice());
        let mut segments = Vec::new();
        loop {
            match (ones, others) {
                ([Segment::Rest, ..], remaining) | (remaining, [Segment::Rest, ..]) => {
                    segments.extend_from_slice(remaining);
                    break;
                }
                ([Segment::One, ones_left @ ..], [segment, others_left @ ..])
                | ([segment, ones_left @ ..], [_, others_left @ ..]) => {
                    segments.push(segment.clone());
                    (ones, others) = (ones_left, others_left);
                }
                ([], _) | (_, []) => break,
            }
        }
        let written = segments
            .iter()
            .enumerate()
            .map(|(at, segment)| match segment {
                Segment::Literal(literal) => format!("/{literal}"),
                Segment::One => format!("/{{p{at}}}"),
                Segment::Rest => "/{*rest}".to_owned(),
            });
        let text: String = written.collect();
        let text = if text.is_empty() { "/" } else { &text };
        Some(Self {
            text: text.into(),
            segments,
        })
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
    #[must_use]
    pub fn has_shape_of(&self, other: &Self) -> bool {
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

#[cfg(test)]
mod tests;
