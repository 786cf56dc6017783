use portcullis_gateway::downstream::chunks::{Chunks, Malformed};

/// How many bytes belong to the body, and whether it has ended.
type Verdict = Result<(usize, bool), Malformed>;

/// No shorter body is refused for its length: the longest line, and the least of the other bounds.
const SHORT: usize = 4096;

/// A chunked body ends where the grammar says so, and where Pingora's parser finds it, however it
/// is cut on its way; what is refused is against the grammar, or too long.
pub fn chunks(bytes: &[u8]) {
    let whole = read([bytes]);
    for first in crate::cuts(bytes.len()) {
        let (start, rest) = bytes.split_at(first);
        assert_eq!(read([start, rest]), whole, "cut at {first}");
    }
    assert_eq!(read(bytes.chunks(1)), whole, "byte by byte");

    if whole.is_ok() || bytes.len() <= SHORT {
        let end = by_the_grammar(bytes);
        let verdict = end.map(|end| end.map_or((bytes.len(), false), |end| (end, true)));
        assert_eq!(whole, verdict);
    }
    if let Ok((end, true)) = whole {
        assert_eq!(by_httparse(bytes), Some(end));
    }
}

fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let mut chunks = Chunks::default();
    let mut own = 0;
    for part in parts {
        own += chunks.read(part)?;
    }
    Ok((own, chunks.is_done()))
}

/// Where the body ends, if it does: RFC 9112 §7.1, a line at a time.
fn by_the_grammar(body: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut left = body;
    loop {
        let Some(line) = line(&mut left, is_size, is_start_of_size)? else {
            return Ok(None);
        };
        let size = size(line);
        if size == 0 {
            break;
        }
        left = match left.get(size..) {
            None | Some([] | [b'\r']) => return Ok(None),
            Some([b'\r', b'\n', rest @ ..]) => rest,
            Some(_) => return Err(Malformed),
        };
    }
    loop {
        match line(&mut left, is_trailer, is_start_of_trailer)? {
            None => return Ok(None),
            Some([]) => return Ok(Some(body.len() - left.len())),
            Some(_) => {}
        }
    }
}

/// Takes a line off what is `left`. There may be none yet, but what there is of it has to fit.
fn line<'a>(
    left: &mut &'a [u8],
    is_line: fn(&[u8]) -> bool,
    is_start: fn(&[u8]) -> bool,
) -> Result<Option<&'a [u8]>, Malformed> {
    let bytes = *left;
    let Some(line_feed) = bytes.iter().position(|byte| *byte == b'\n') else {
        let fits = match bytes.strip_suffix(b"\r") {
            Some(line) => is_line(line),
            None => is_start(bytes),
        };
        return if fits { Ok(None) } else { Err(Malformed) };
    };
    let (line, rest) = bytes.split_at(line_feed + 1);
    *left = rest;
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
    if is_line(line) {
        Ok(Some(line))
    } else {
        Err(Malformed)
    }
}

fn is_size(line: &[u8]) -> bool {
    let digits = digits(line);
    let extension = line.get(digits.len()..).unwrap_or_default();
    // More digits are refused, whatever they say.
    (1..=15).contains(&digits.len()) && matches!(extension, [] | [b';', ..]) && are_text(extension)
}

fn is_start_of_size(part: &[u8]) -> bool {
    part.is_empty() || is_size(part)
}

fn digits(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
    line.split_at(end.unwrap_or(line.len())).0
}

fn size(line: &[u8]) -> usize {
    let digits = std::str::from_utf8(digits(line)).expect("ASCII");
    usize::from_str_radix(digits, 16).expect("15 digits")
}

fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return line.is_empty();
    };
    let (name, value) = line.split_at(colon);
    !name.is_empty() && are_of_a_token(name) && are_text(value)
}

fn is_start_of_trailer(part: &[u8]) -> bool {
    are_of_a_token(part) || is_trailer(part)
}

fn are_of_a_token(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn are_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// Where Pingora's parser finds the end.
fn by_httparse(body: &[u8]) -> Option<usize> {
    let mut left = body;
    loop {
        let Ok(httparse::Status::Complete((data, size))) = httparse::parse_chunk_size(left) else {
            return None;
        };
        left = left.get(data..)?;
        if size == 0 {
            break;
        }
        left = left.get(usize::try_from(size).ok()? + 2..)?;
    }
    // No field is shorter than four bytes.
    let mut headers = vec![httparse::EMPTY_HEADER; body.len() / 4];
    match httparse::parse_headers(left, &mut headers) {
        Ok(httparse::Status::Complete((trailers, _))) => Some(body.len() - left.len() + trailers),
        _ => None,
    }
}
