//! Secrets: named by file or variable in the configuration, never written there, never printed.

use std::ffi::OsStr;
use std::fmt;

use zeroize::Zeroizing;

/// Bytes that nobody is shown. They are erased when dropped.
///
/// There is no `Display`, no serialization and no comparison; [`Secret::expose`] is the only way to
/// the bytes, and easy to search for.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Takes text from a file: one newline at its end is the editor's.
    pub(crate) fn from_text(text: &[u8]) -> Self {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Self::new(text.strip_suffix(b"\r").unwrap_or(text))
    }

    /// The value of an environment variable; `None` when it is not set.
    pub(crate) fn from_env(name: &str) -> Option<Self> {
        // Asking for such a name is a panic in the standard library.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(OsStr::new(name)).map(|value| Self::new(value.into_encoded_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(
            format!("{:?} {:#?}", Secret::new("hunter2"), Some(Secret::new("x"))),
            "[redacted] Some(\n    [redacted],\n)"
        );
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_secret() {
        for (text, secret) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("", ""),
        ] {
            assert_eq!(
                Secret::from_text(text.as_bytes()).expose(),
                secret.as_bytes(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_no_variable() {
        for name in ["", "A=B", "A\0B"] {
            assert!(Secret::from_env(name).is_none(), "{name:?}");
        }
    }
}
