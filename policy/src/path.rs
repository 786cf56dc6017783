use std::borrow::Cow;

/// The path of a request, accepted as it was received or refused, never rewritten: what was judged
/// is, byte for byte, what is forwarded.
///
/// Accepted is what every reader of paths takes for the same sequence of segments. Refused is all
/// that a service might fold into another path than the one that was judged: dot segments in any
/// encoding, empty segments, encoded slashes, backslashes, control characters, path parameters
/// (`;`), escapes of escapes, and bytes outside RFC 3986 §3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPath<'a> {
    text: &'a str,
    has_escapes: bool,
    has_needless_escapes: bool,
}

/// What is escaped in a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Escapes {
    /// Something that need not be (RFC 3986 §2.3, §3.3), or in lower case (§6.2.2.1).
    pub(crate) are_needless: bool,
    /// Something that ECMAScript's `decodeURI` leaves as it is.
    pub(crate) are_reserved: bool,
}

impl Escapes {
    fn of(high: u8, low: u8) -> Self {
        let decoded = hex_byte(high, low);
        let is_lower = high.is_ascii_lowercase() || low.is_ascii_lowercase();
        Self {
            are_needless: is_lower || decoded.is_some_and(is_plain),
            are_reserved: decoded.is_some_and(|byte| b"$&+,:=@".contains(&byte)),
        }
    }
}

/// A path that two parsers could read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path that two parsers could read differently")]
pub struct AmbiguousPath;

impl<'a> RequestPath<'a> {
    /// Accepts the path of an origin-form target, without its query.
    ///
    /// # Errors
    /// When it is not of the one form that all parsers agree about.
    pub fn parse(text: &'a str) -> Result<Self, AmbiguousPath> {
        let bytes = text.as_bytes();
        let (b'/', mut rest) = bytes
            .split_first()
            .map(|(first, rest)| (*first, rest))
            .ok_or(AmbiguousPath)?
        else {
            return Err(AmbiguousPath);
        };
        let (mut has_escapes, mut has_needless_escapes) = (false, false);
        // Bytes since the last slash, and whether all of them were dots.
        let (mut length, mut only_dots) = (0_usize, true);
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'/' => {
                    if length == 0 || (only_dots && length <= 2) {
                        return Err(AmbiguousPath);
                    }
                    (length, only_dots) = (0, true);
                    continue;
                }
                b'.' => {}
                b'%' => {
                    let [high, low, tail @ ..] = rest else {
                        return Err(AmbiguousPath);
                    };
                    let decoded = hex_byte(*high, *low).ok_or(AmbiguousPath)?;
                    rest = tail;
                    if !may_be_escaped(decoded) {
                        return Err(AmbiguousPath);
                    }
                    has_escapes = true;
                    has_needless_escapes |= Escapes::of(*high, *low).are_needless;
                    only_dots = false;
                }
                byte if is_plain(byte) => only_dots = false,
                _ => return Err(AmbiguousPath),
            }
            length += 1;
        }
        if only_dots && (1..=2).contains(&length) {
            return Err(AmbiguousPath);
        }
        let path = Self {
            text,
            has_escapes,
            has_needless_escapes,
        };
        if has_escapes
            && path
                .segments()
                .any(|segment| !decodes_to_one_text(&segment))
        {
            return Err(AmbiguousPath);
        }
        Ok(path)
    }

    /// The path as it was received, and as it is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether something is escaped that need not be, or not in this way. A service that compares segments
    /// undecoded takes such a one for another text.
    pub(crate) const fn has_needless_escapes(&self) -> bool {
        self.has_needless_escapes
    }

    /// Whether it ends with a slash that [`RequestPath::segments`] leaves out. That of `/` is all there is.
    pub(crate) fn has_trailing_slash(&self) -> bool {
        self.text.len() > 1 && self.text.ends_with('/')
    }

    /// For each of [`RequestPath::segments`], the same.
    pub(crate) fn escapes(&self) -> impl Iterator<Item = Escapes> + use<'a> {
        self.raw_segments().map(|segment| {
            let escapes = segment.match_indices('%').filter_map(|(at, _)| {
                let digits = segment.as_bytes().get(at + 1..at + 3)?;
                Some(Escapes::of(*digits.first()?, *digits.last()?))
            });
            escapes.fold(Escapes::default(), |all, one| Escapes {
                are_needless: all.are_needless || one.are_needless,
                are_reserved: all.are_reserved || one.are_reserved,
            })
        })
    }

    /// The segments, percent-decoded once. A single trailing slash makes no segment: services
    /// differ in whether `/a/` is `/a`, so both are judged alike.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a> {
        let has_escapes = self.has_escapes;
        self.raw_segments().map(move |segment| {
            if has_escapes {
                decode(segment)
            } else {
                Cow::Borrowed(segment.as_bytes())
            }
        })
    }
}

impl<'a> RequestPath<'a> {
    fn raw_segments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let inner = self.text.strip_prefix('/').unwrap_or(self.text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let segments = (!inner.is_empty()).then(|| inner.split('/'));
        segments.into_iter().flatten()
    }
}

/// Whether `byte` may stand in a path as itself: `pchar` of RFC 3986 §3.3 without `%`, and without
/// `;`, which some services take for the start of a parameter and cut off.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// Whether `byte` may stand in a path as an escape without changing what parsers make of the path.
fn may_be_escaped(byte: u8) -> bool {
    !(byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'.' | b';' | b'#' | b'?'))
}

/// Whether a decoded segment says the same to every decoder: overlong or truncated UTF-8 does not,
/// and neither does an escape that was hidden in an escape.
fn decodes_to_one_text(decoded: &[u8]) -> bool {
    let hides_an_escape = decoded
        .windows(3)
        .any(|window| matches!(window, [b'%', high, low] if hex_byte(*high, *low).is_some()));
    !hides_an_escape && std::str::from_utf8(decoded).is_ok()
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Percent-decodes a segment whose escapes have been checked.
fn decode(segment: &str) -> Cow<'_, [u8]> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment.as_bytes());
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, rest) {
            (b'%', [high, low, tail @ ..]) => {
                decoded.extend(hex_byte(*high, *low));
                rest = tail;
            }
            _ => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_accepted_as_received() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/..d/e..",
            "/a-b_c~d",
            "/@me:1,2",
            "/caf%C3%A9",
            "/a%20b",
            "/...",
            "/%40me",
            "/100%25",
        ] {
            assert_eq!(
                RequestPath::parse(path).map(|accepted| accepted.as_str()),
                Ok(path),
                "{path}"
            );
        }
    }

    #[test]
    fn paths_that_two_parsers_could_read_differently_are_refused() {
        for path in [
            "",
            "a",
            "*",
            "http://h/a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/.",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0a",
            "/a%0D",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/%%32%65",
            "/%252e%252e/a",
            "/%25%32%65",
            "/a;x=y",
            "/..;/a",
            "/a%3bx",
            "/a#b",
            "/a%23",
            "/a%3f",
            "/a?b",
            "/a b",
            "/a\u{1}",
            "/ä",
            "/a\"b",
            "/a|b",
            "/a^b",
            "/a`b",
            "/{a}",
            "/[a]",
            "/<a>",
            "/%c0%ae%c0%ae/a",
            "/%ff",
            "/%C3",
        ] {
            assert_eq!(RequestPath::parse(path), Err(AmbiguousPath), "{path}");
        }
    }

    #[test]
    fn segments_are_decoded_once_and_a_trailing_slash_makes_none() {
        let segments = |path| {
            RequestPath::parse(path)
                .unwrap()
                .segments()
                .map(|segment| String::from_utf8(segment.into_owned()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(segments("/"), Vec::<String>::new());
        assert_eq!(segments("/a"), ["a"]);
        assert_eq!(segments("/a/"), ["a"]);
        assert_eq!(segments("/%61dmin/%40me"), ["admin", "@me"]);
        assert_eq!(segments("/100%25"), ["100%"]);
    }
}
