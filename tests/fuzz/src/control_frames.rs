use std::time::{Duration, Instant};

use portcullis_gateway::downstream::control_frames::ControlFrames;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// So many control frames may come at once, and more for time, for bytes sent, and for requests.
const AT_ONCE: u64 = 2_000;
const FOR_A_MILLISECOND: u64 = 1;
const FOR_A_KIBIBYTE: u64 = 1;
const FOR_A_REQUEST: u64 = 4;

/// Control frames are within what was earned, nobody is closed on for those that may come at once,
/// and it does not matter how they are cut on their way. The first byte says how many milliseconds
/// pass before each round, the second how many KiB are sent; the others are what comes in each.
pub fn control_frames(bytes: &[u8]) {
    let [milliseconds, kibibytes, frames @ ..] = bytes else {
        return;
    };
    if frames.is_empty() {
        return;
    }
    let earning = (*milliseconds, *kibibytes);
    let rounds = (ALL / frames.len()).max(1);
    let taken = rounds_taken(frames, rounds, frames.len(), earning);
    for step in 1..=HEADER + 1 {
        let cut = rounds_taken(frames, rounds, step, earning);
        assert_eq!(cut, taken, "in steps of {step}");
    }

    let (control, requests) = counted(&frames.repeat(taken));
    let for_a_round =
        u64::from(*milliseconds) * FOR_A_MILLISECOND + u64::from(*kibibytes) * FOR_A_KIBIBYTE;
    let earned = taken as u64 * for_a_round + requests * FOR_A_REQUEST;
    assert!(control <= AT_ONCE + earned, "{control}, {earned} earned");
    if taken < rounds {
        let (control, _) = counted(&frames.repeat(taken + 1));
        assert!(control > AT_ONCE, "closed on after {control}");
    }
}

/// Bytes of all rounds: empty frames fill the budget twice.
const ALL: usize = 36 * 1024;

/// RFC 9113 §4.1.
const HEADER: usize = 9;

/// How many rounds pass.
fn rounds_taken(
    frames: &[u8],
    rounds: usize,
    step: usize,
    (milliseconds, kibibytes): (u8, u8),
) -> usize {
    let mut now = Instant::now();
    let mut control = ControlFrames::new(now);
    for part in PREFACE.chunks(step) {
        assert!(control.read(part, now).is_ok(), "nothing was sent yet");
    }
    (0..rounds)
        .take_while(|_| {
            now += Duration::from_millis(milliseconds.into());
            control.sent(usize::from(kibibytes) * 1024);
            let mut parts = frames.chunks(step);
            parts.all(|part| control.read(part, now).is_ok())
        })
        .count()
}

/// Control frames, and requests, of which the header is in `stream`.
fn counted(stream: &[u8]) -> (u64, u64) {
    let (mut control, mut requests) = (0, 0);
    let mut left = stream;
    while let Some(([high, middle, low, kind, ..], rest)) = left.split_first_chunk::<HEADER>() {
        match kind {
            // DATA, CONTINUATION.
            0 | 9 => {}
            // HEADERS.
            1 => requests += 1,
            _ => control += 1,
        }
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        left = rest.get(length..).unwrap_or_default();
    }
    (control, requests)
}
