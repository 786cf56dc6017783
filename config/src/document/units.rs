use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A duration with its unit, such as `30s`, `5m`, `250ms`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

/// A size with its unit, such as `64KiB`, `1MiB`, `512B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

pub(crate) const DURATION_PATTERN: &str = "^[0-9]+(ms|s|m|h)$";
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

impl HumanDuration {
    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text).ok_or_else(|| {
            format!("`{text}` is no duration: a whole number and its unit are needed, such as `250ms`, `30s`, `5m`, `24h`")
        })?;
        let milliseconds = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "" => {
                return Err(format!(
                    "`{text}` has no unit: write `{text}s` for seconds, or `ms`, `m`, `h`"
                ));
            }
            _ => {
                return Err(format!(
                    "`{unit}` is no unit of time: use `ms`, `s`, `m` or `h`"
                ));
            }
        };
        milliseconds
            .and_then(|unit| number.checked_mul(unit))
            .map(|milliseconds| Self(Duration::from_millis(milliseconds)))
            .ok_or_else(|| format!("`{text}` is too long"))
    }
}

impl ByteSize {
    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text).ok_or_else(|| {
            format!("`{text}` is no size: a whole number and its unit are needed, such as `512B`, `64KiB`, `1MiB`")
        })?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            "GiB" => 1024 * 1024 * 1024,
            "" => {
                return Err(format!(
                    "`{text}` has no unit: write `{text}B` for bytes, or `KiB`, `MiB`, `GiB`"
                ));
            }
            _ => {
                return Err(format!(
                    "`{unit}` is no unit of size: use `B`, `KiB` (1024 bytes), `MiB` or `GiB`"
                ));
            }
        };
        number
            .checked_mul(bytes)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

/// Digits, then the rest.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit)?.parse().ok()?;
    Some((number, unit))
}

/// As it would be written: the largest unit that divides it.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            0 => f.write_str("0s"),
            ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// As it would be written: the largest unit that divides it.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1024 * 1024 * 1024) == 0 => {
                write!(f, "{}GiB", bytes / (1024 * 1024 * 1024))
            }
            bytes if bytes > 0 && bytes % (1024 * 1024) == 0 => {
                write!(f, "{}MiB", bytes / (1024 * 1024))
            }
            bytes if bytes > 0 && bytes % 1024 == 0 => write!(f, "{}KiB", bytes / 1024),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            expected: "a duration such as `250ms`, `30s`, `5m`, `24h`",
            parse: Self::parse,
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            expected: "a size such as `512B`, `64KiB`, `1MiB`",
            parse: Self::parse,
        })
    }
}

struct Quantity<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        // Without a unit it is refused, in words that tell which units there are.
        (self.parse)(&number.to_string()).map_err(E::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN })
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SIZE_PATTERN })
    }
}
