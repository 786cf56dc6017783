//! The path that was judged is the path that is forwarded, however a service reads it.

use std::cell::Cell;

use portcullis_policy::RequestPath;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use crate::cases;

type Segments = Vec<Vec<u8>>;
type Reader = (&'static str, fn(&[u8]) -> Segments);

/// How services find the segments of a path: as RFC 3986 has it, and in the ways of those that
/// decode twice, or fold into slashes, dots and ends what RFC 3986 does not.
const READERS: [Reader; 8] = [
    ("decodes, then removes dots", |path| {
        split(&without_dots(&decoded(path)))
    }),
    ("removes dots, then decodes", |path| {
        split(&without_dots(path))
            .iter()
            .map(|segment| decoded(segment))
            .collect()
    }),
    ("splits, then decodes", |path| {
        split(path).iter().map(|segment| decoded(segment)).collect()
    }),
    ("decodes twice", |path| {
        split(&without_dots(&decoded(&decoded(path))))
    }),
    ("takes a backslash for a slash", |path| {
        let slashes: Vec<u8> = decoded(path)
            .iter()
            .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
            .collect();
        split(&without_dots(&slashes))
    }),
    ("merges slashes", |path| {
        let mut merged = decoded(path);
        merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
        split(&without_dots(&merged))
    }),
    ("cuts path parameters off", |path| {
        let cut: Vec<Vec<u8>> = decoded(path)
            .split(|byte| *byte == b'/')
            .map(|segment| until(segment, b";"))
            .collect();
        split(&without_dots(&cut.join(&b'/')))
    }),
    ("ends at a NUL, a query or a fragment", |path| {
        split(&without_dots(&until(&decoded(path), b"\0?#")))
    }),
];

#[test]
fn an_accepted_path_is_forwarded_as_received_and_read_alike_by_every_service() {
    let config = cases(4096);
    let (all, accepted) = (config.cases, Cell::new(0));
    TestRunner::new(config)
        .run(&path(), |text| {
            let Ok(path) = RequestPath::parse(&text) else {
                return Ok(());
            };
            accepted.set(accepted.get() + 1);
            prop_assert_eq!(path.as_str(), &text);
            let segments: Segments = path
                .segments()
                .map(|segment| segment.into_owned())
                .collect();
            for (reader, read) in READERS {
                prop_assert_eq!(&read(text.as_bytes()), &segments, "{}", reader);
            }
            Ok(())
        })
        .unwrap();
    let accepted = accepted.get();
    assert!(
        (all / 5..all * 4 / 5).contains(&accepted),
        "{accepted} of {all}"
    );
}

/// Some of them hostile.
fn path() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "/", "/", "/", "a", "b", "admin", "...", "a.", ".a", "-", "~", "@", ":", "+", "%61", "%20",
        "%c3%a9", "%C3%A9", "%40",
    ]);
    let hostile = select(vec![
        ".", "..", "//", "%2e", "%2E", ".%2e", "%2f", "%2F", "%5c", "\\", "%25", "%252e", "%252f",
        "%80", "%c0%ae", ";", "%3b", "?", "%3f", "#", "%23", "%00", "%0a", " ", "{", "é", "%",
        "%2", "%zz", "2e", "2f",
    ]);
    let pieces = |hostile_weight| {
        let piece = prop_oneof![
            20 => plain.clone(),
            hostile_weight => hostile.clone(),
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
    };
    prop_oneof![
        5 => pieces(1),
        3 => pieces(10),
        1 => any::<String>().prop_map(|text| format!("/{text}")),
        1 => any::<String>(),
    ]
}

/// One slash at the end makes no segment.
fn split(path: &[u8]) -> Segments {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    if inner.is_empty() {
        return Segments::new();
    }
    inner
        .split(|byte| *byte == b'/')
        .map(<[u8]>::to_vec)
        .collect()
}

fn until(bytes: &[u8], ends: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .copied()
        .take_while(|byte| !ends.contains(byte))
        .collect()
}

/// Percent-decoded; what is no escape stays.
fn decoded(mut rest: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let [byte, tail @ ..] = rest {
        let escape = match rest {
            [b'%', high, low, ..] => std::str::from_utf8(&[*high, *low])
                .ok()
                .filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        decoded.push(escape.unwrap_or(*byte));
        rest = if escape.is_some() { &rest[3..] } else { tail };
    }
    decoded
}

/// RFC 3986 §5.2.4, step by step.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut input = path.to_vec();
    let mut output: Vec<u8> = Vec::new();
    while !input.is_empty() {
        if input.starts_with(b"../") {
            input.drain(..3);
        } else if input.starts_with(b"./") || input.starts_with(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input.truncate(1);
        } else if input.starts_with(b"/../") || input == b"/.." {
            input.splice(..input.len().min(4), *b"/");
            output.truncate(output.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
        } else if input == b"." || input == b".." {
            input.clear();
        } else {
            let end = input.iter().skip(1).position(|byte| *byte == b'/');
            output.extend(input.drain(..end.map_or(input.len(), |end| end + 1)));
        }
    }
    output
}
