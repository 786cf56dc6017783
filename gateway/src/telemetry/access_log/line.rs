//! One JSON object on one line, written into a buffer that is handed on as it is.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

/// Limits in bytes *as written*, escapes included: only then does their sum say how long a line is.
pub(super) const MAX_PATH: usize = 1024;
pub(super) const MAX_HOST: usize = 255;
pub(super) const MAX_USER_AGENT: usize = 256;
pub(super) const MAX_CLAIM: usize = 256;
/// Names in the configuration, and what the gateway makes itself.
pub(super) const MAX_NAME: usize = 96;

/// Stands where a value was cut.
const ELLIPSIS: &str = "…";

pub(super) struct Line(Vec<u8>);

impl Line {
    pub(super) fn new() -> Self {
        let mut line = Vec::with_capacity(1024);
        line.push(b'{');
        Self(line)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }

    /// Names of fields are constants that need no escapes.
    fn name(&mut self, name: &'static str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str, limit: usize) {
        self.bytes(name, text.as_bytes(), limit);
    }

    pub(super) fn optional_text(&mut self, name: &'static str, text: Option<&str>, limit: usize) {
        if let Some(text) = text {
            self.text(name, text, limit);
        }
    }

    /// Bytes that ought to be UTF-8, cut so that no more than `limit` bytes are written.
    pub(super) fn bytes(&mut self, name: &'static str, bytes: &[u8], limit: usize) {
        self.name(name);
        self.0.push(b'"');
        if bytes.len() <= limit && needs_no_escape(bytes) {
            self.0.extend_from_slice(bytes);
        } else {
            self.escaped(bytes, limit);
        }
        self.0.push(b'"');
    }

    fn escaped(&mut self, bytes: &[u8], limit: usize) {
        let start = self.0.len();
        // Where the value has to end if an ellipsis is to follow.
        let mut end_if_cut = start;
        for character in bytes.utf8_chunks().flat_map(|chunk| {
            let replacement = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            chunk.valid().chars().chain(replacement)
        }) {
            self.character(character);
            let written = self.0.len() - start;
            if written + ELLIPSIS.len() <= limit {
                end_if_cut = self.0.len();
            } else if written > limit {
                self.0.truncate(end_if_cut);
                self.0.extend_from_slice(ELLIPSIS.as_bytes());
                break;
            }
        }
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.0.extend_from_slice(b"\\\""),
            '\\' => self.0.extend_from_slice(b"\\\\"),
            // C1 controls and line separators too: they start an escape sequence or a line somewhere.
            control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                self.format(format_args!("\\u{:04x}", u32::from(control)));
            }
            plain => self
                .0
                .extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// A value whose text is short and needs no escapes, such as an address.
    pub(super) fn display(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        self.format(format_args!("\"{value}\""));
    }

    pub(super) fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        let digits = bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 0xF])
            .filter_map(|digit| char::from_digit(u32::from(digit), 16));
        self.display(name, digits.collect::<String>());
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl Into<u64>) {
        self.name(name);
        self.format(format_args!("{}", number.into()));
    }

    /// Seconds with microseconds.
    pub(super) fn optional_seconds(&mut self, name: &'static str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.name(name);
            self.format(format_args!(
                "{}.{:06}",
                duration.as_secs(),
                duration.subsec_micros()
            ));
        }
    }

    fn format(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a `Vec` cannot fail.
        let _ = self.0.write_fmt(arguments);
    }
}

/// Whether `bytes` are printable ASCII that JSON takes as it is. As most are, they are looked at together.
fn needs_no_escape(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |none, byte| {
        none & (*byte >= b' ') & (*byte < 0x7F) & (*byte != b'"') & (*byte != b'\\')
    })
}
