use std::fmt;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

/// RFC 3339 in UTC with exactly three digits of milliseconds, so that lines sort as text.
const MILLISECONDS: EncodedConfig = {
    let Some(digits) = std::num::NonZeroU8::new(3) else {
        unreachable!()
    };
    Config::DEFAULT
        .set_time_precision(TimePrecision::Second {
            decimal_digits: Some(digits),
        })
        .encode()
};

/// A moment as people and log pipelines read it: `2026-11-24T09:30:00.125Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = i128::try_from(super::metrics::since_epoch(self.0).as_nanos())
            .map_err(|_| fmt::Error)?;
        let text = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
            .map_err(|_| fmt::Error)?
            .format(&Iso8601::<MILLISECONDS>)
            .map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Timestamp;

    #[test]
    fn a_timestamp_is_utc_with_three_digits() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_795_512_600_120, "2026-11-24T09:30:00.120Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(Timestamp::from(time).to_string(), expected);
        }
    }
}
