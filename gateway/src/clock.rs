//! The wall clock. It decides how long a token is good, and whoever sets it moves every expiry.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use crate::gateway::Gateway;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Less than this between two looks is a clock that is kept right.
const STEP: Duration = Duration::from_secs(1);

/// Tells, for as long as the gateway runs, when the wall clock was set: it has gone another way than the
/// one that only counts. What was verified by the other time is verified anew.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        looks.tick().await;
        let Some((is, at)) = look() else {
            continue;
        };
        let (was, before) = last.replace((is, at)).unwrap_or((is, at));
        let step = step(is, was + (at - before));
        if step.unsigned_abs() >= STEP.as_millis() {
            gateway.metrics().clock_stepped();
            gateway.snapshot().tokens().clear();
            let seconds = i64::try_from(step / 1000).unwrap_or(i64::MAX);
            tracing::warn!(
                seconds,
                "the clock was set: tokens expire, and begin to be valid, by the new time"
            );
        }
    }
}

/// Both clocks at one time; nothing where the thread was stopped between them.
fn look() -> Option<(SystemTime, Instant)> {
    let before = Instant::now();
    let is = SystemTime::now();
    (before.elapsed() < STEP / 10).then_some((is, before))
}

/// Milliseconds that the clock is ahead of what was expected.
fn step(is: SystemTime, expected: SystemTime) -> i128 {
    let milliseconds = |time: Duration| i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
    is.duration_since(expected)
        .map_or_else(|behind| -milliseconds(behind.duration()), milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_has_a_direction() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
        let later = noon + Duration::from_millis(1_500);
        assert_eq!(step(later, noon), 1_500);
        assert_eq!(step(noon, later), -1_500);
        assert_eq!(step(noon, noon), 0);
    }
}
