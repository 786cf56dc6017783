//! The chunks of an HTTP/1 request body, held to the one form that every parser reads alike (RFC 9112
//! §7.1): what a lax parser lets pass, such as a bare LF behind an extension or a size of no digits,
//! lets a proxy in front see another end of the request than the gateway does.

/// Longest line of a chunk's size, or of a trailer field.
const MAX_LINE: usize = 4096;
/// All extensions and trailer fields together. They are read and forgotten.
const MAX_FORGOTTEN: usize = 16 * 1024;

/// A body that is not what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// How far a chunked body has been read.
#[derive(Debug, Default)]
pub struct Chunks {
    place: Place,
    /// Of the size, or of the data that are left.
    size: u64,
    digits: u32,
    /// Bytes of the line so far, and of all extensions and trailers.
    line: usize,
    forgotten: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Size,
    Extension,
    /// LF is due behind the size.
    SizeEnd,
    Data,
    /// CR is due behind the data, ...
    DataEnd,
    /// ... then LF.
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// LF is due, the last byte.
    LastLineFeed,
    Done,
}

impl Chunks {
    /// Reads on. Says how many of `bytes` belong to the body: all of them, unless it ends there.
    ///
    /// # Errors
    /// No parser should have to guess.
    pub fn read(&mut self, all: &[u8]) -> Result<usize, Malformed> {
        let mut bytes = all;
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.place == Place::Data {
                let here = usize::try_from(self.size)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                bytes = bytes.get(here..).unwrap_or_default();
                self.size -= here as u64;
                if self.size == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            if self.place == Place::Done {
                break;
            }
            self.place = self.step(byte)?;
            bytes = rest;
        }
        Ok(all.len() - bytes.len())
    }

    /// Whether the body has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    fn step(&mut self, byte: u8) -> Result<Place, Malformed> {
        use Place::{
            Data, DataEnd, DataLineFeed, Done, Extension, LastLineFeed, Size, SizeEnd, TrailerEnd,
            TrailerName, TrailerStart, TrailerValue,
        };
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(Malformed);
        }
        Ok(match (self.place, byte) {
            (Size, digit) if digit.is_ascii_hexdigit() => {
                self.digits += 1;
                // 15 digits fit 63 bits.
                if self.digits > 15 {
                    return Err(Malformed);
                }
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                self.size = self.size * 16 + u64::from(digit);
                Size
            }
            (Size, b';') if self.digits > 0 => Extension,
            (Size, b'\r') if self.digits > 0 => SizeEnd,
            (Extension, b'\r') => SizeEnd,
            (Extension, byte) if is_text(byte) => {
                self.forget(1)?;
                Extension
            }
            (SizeEnd, b'\n') => {
                (self.line, self.digits) = (0, 0);
                if self.size == 0 { TrailerStart } else { Data }
            }
            (DataEnd, b'\r') => DataLineFeed,
            (DataLineFeed, b'\n') => {
                self.line = 0;
                Size
            }
            (TrailerStart, b'\r') => LastLineFeed,
            (TrailerStart | TrailerName, byte) if super::head::is_token(byte) => TrailerName,
            (TrailerName, b':') => TrailerValue,
            (TrailerValue, b'\r') => TrailerEnd,
            (TrailerValue, byte) if is_text(byte) => TrailerValue,
            (TrailerEnd, b'\n') => {
                let line = std::mem::take(&mut self.line);
                self.forget(line)?;
                TrailerStart
            }
            (LastLineFeed, b'\n') => Done,
            _ => return Err(Malformed),
        })
    }
}

impl Chunks {
    fn forget(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.forgotten += bytes;
        if self.forgotten > MAX_FORGOTTEN {
            return Err(Malformed);
        }
        Ok(())
    }
}

/// RFC 9110 §5.5: no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once, and byte by byte: `true` when it came to its end.
    fn read(body: &[u8]) -> Result<bool, Malformed> {
        let mut whole = Chunks::default();
        let at_once = whole.read(body).map(|_| whole.is_done());
        let mut single = Chunks::default();
        let one_by_one = body
            .iter()
            .try_for_each(|byte| single.read(&[*byte]).map(|_| ()))
            .map(|()| single.is_done());
        assert_eq!(at_once, one_by_one, "{}", body.escape_ascii());
        at_once
    }

    #[test]
    fn chunks_as_they_should_be_pass() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhe\rlo\r\n1\r\n\n\r\n00\r\n\r\n",
            "2;name=value\r\nhi\r\n0;x\r\n\r\n",
            "A\r\n0123456789\r\n0\r\nX-Sum: 1\r\nOther:\r\n\r\n",
            "000000000000001\r\nx\r\n0\r\n\r\n",
            "0\r\n\r\nGET /next HTTP/1.1\r\n",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(true), "{body:?}");
        }
        for start in [
            "",
            "5",
            "5\r\nhel",
            "5\r\nhello\r\n",
            "0\r\n\r",
            "0\r\nX: y\r\n",
        ] {
            assert_eq!(read(start.as_bytes()), Ok(false), "{start:?}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_malformed() {
        for body in [
            "\r\n",
            ";x\r\n\r\n",
            " 5\r\nhello",
            "5 \r\nhello",
            "5 ;x\r\nhello",
            "5\nhello",
            "5;a\nb\r\nhello",
            "5;a\rb\r\nhello",
            "5\r\rhello",
            "+5\r\nhello",
            "-5\r\nhello",
            "0x5\r\nhello",
            "5_\r\nhello",
            "0000000000000005\r\nhello",
            "ffffffffffffffff\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "0\r\nGET /admin HTTP/1.1\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: empty\r\n\r\n",
            "0\r\n X: folded\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: a\nY: b\r\n\r\n",
            "0\r\nX: a\0\r\n\r\n",
            "0\n\n",
        ] {
            assert_eq!(read(body.as_bytes()), Err(Malformed), "{body:?}");
        }
        let long = format!("5;{}\r\n", "x".repeat(MAX_LINE));
        assert_eq!(read(long.as_bytes()), Err(Malformed));
        let extended = format!("1;{}\r\nx\r\n", "y".repeat(1000)).repeat(20);
        assert_eq!(read(extended.as_bytes()), Err(Malformed));
        let field = format!("X: {}\r\n", "y".repeat(1000));
        let trailers = format!("0\r\n{}\r\n", field.repeat(20));
        assert_eq!(read(trailers.as_bytes()), Err(Malformed));
    }

    #[test]
    fn what_follows_the_body_is_not_counted() {
        let body = b"1\r\nx\r\n0\r\n\r\n";
        let mut chunks = Chunks::default();
        let all = [&body[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(chunks.read(&all), Ok(body.len()));
        assert_eq!(chunks.read(b"more"), Ok(0));
    }
}
