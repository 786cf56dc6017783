//! Frames of HTTP/2 that carry no part of a request: resets, settings, pings, priorities, window updates,
//! and those of unknown types (RFC 9113 §6). Each is work, and some are answered, but no limit of streams or
//! bytes counts them; h2 has none for most of them. Whoever sends many of them for nothing is closed on. So is
//! who leaves a head, or any frame but of a body, without its end: h2 waits for ever.

use std::time::Instant;

use super::listener::HTTP2_PREFACE;

/// At once, ...
const BURST: u64 = 2_000;
/// ... and then in each second, ...
const PER_SECOND: u64 = 1_000;
/// ... and for so many bytes that the caller was sent: it opens its windows, and measures round trips,
/// as it is sent something.
const BYTES_FOR_ONE: u64 = 1024;
/// HEADERS earn so many: of a request, of its trailers, or of one that h2 refuses, each of which is bounded.
const FOR_A_REQUEST: u64 = 4;

/// Follows what comes in on a connection.
#[derive(Debug)]
pub struct ControlFrames {
    preface_left: usize,
    header: [u8; HEADER],
    has: usize,
    payload_left: usize,
    /// HEADERS came without END_HEADERS, and no CONTINUATION with it.
    owes_continuation: bool,
    /// When a head, or a frame that is not of a body, has begun that has not ended.
    unfinished_since: Option<Instant>,
    budget: u64,
    /// When the budget was last looked at.
    since: Instant,
    /// Bytes that were sent since.
    sent: u64,
}

/// RFC 9113 §4.1.
const HEADER: usize = 9;

/// There were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl ControlFrames {
    /// On a connection that begins.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            preface_left: HTTP2_PREFACE.len(),
            header: [0; HEADER],
            has: 0,
            payload_left: 0,
            owes_continuation: false,
            unfinished_since: None,
            budget: BURST,
            since: now,
            sent: 0,
        }
    }

    /// The caller was sent so many bytes.
    pub const fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// When a head, or a frame that is not of a body, has begun that has not ended yet.
    #[must_use]
    pub const fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// When there were more such frames than there may be.
    pub fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), TooMany> {
        while !bytes.is_empty() {
            let skipped = self.preface_left + self.payload_left;
            if skipped > 0 {
                let length = skipped.min(bytes.len());
                let of_preface = length.min(self.preface_left);
                self.preface_left -= of_preface;
                self.payload_left -= length - of_preface;
                bytes = bytes.get(length..).unwrap_or_default();
                self.look_for_end();
                continue;
            }
            self.unfinished_since.get_or_insert(now);
            let length = (HEADER - self.has).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            if let Some(header) = self.header.get_mut(self.has..self.has + length) {
                header.copy_from_slice(part);
            }
            self.has += length;
            bytes = rest;
            if self.has == HEADER {
                self.has = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                let length = [0, high, middle, low].map(usize::from);
                self.payload_left = length.iter().fold(0, |sum, byte| sum << 8 | byte);
                match kind {
                    // A request, which may be cancelled, and whose answer opens windows.
                    HEADERS => self.sent += FOR_A_REQUEST * BYTES_FOR_ONE,
                    DATA | CONTINUATION => {}
                    _ => self.spend(now)?,
                }
                if matches!(kind, HEADERS | CONTINUATION) {
                    self.owes_continuation = flags & END_HEADERS == 0;
                }
                self.look_for_end();
            }
        }
        Ok(())
    }

    /// A frame has ended, or is one of a body, which has time limits of its own.
    fn look_for_end(&mut self) {
        let [_, _, _, kind, ..] = self.header;
        if !self.owes_continuation && (self.payload_left == 0 || kind == DATA) {
            self.unfinished_since = None;
        }
    }

    fn spend(&mut self, now: Instant) -> Result<(), TooMany> {
        if self.budget == 0 {
            let elapsed = now.saturating_duration_since(self.since).as_millis();
            let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
            let earned = elapsed.saturating_mul(PER_SECOND) / 1_000 + self.sent / BYTES_FOR_ONE;
            if earned == 0 {
                return Err(TooMany);
            }
            self.budget = earned.min(BURST);
            self.since = now;
            self.sent = 0;
        }
        self.budget -= 1;
        Ok(())
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        [&size[1..], &[kind, 0, 0, 0, 0, 1], &vec![0xFF; length]].concat()
    }

    fn begun(now: Instant) -> ControlFrames {
        let mut frames = ControlFrames::new(now);
        frames.read(HTTP2_PREFACE, now).unwrap();
        frames
    }

    #[test]
    fn burst_is_taken_however_it_is_cut_and_no_more() {
        let now = Instant::now();
        let kinds = [2, 3, 4, PING, 7, WINDOW_UPDATE, 0x10, 0x2A];
        let all: Vec<u8> = (0..2_000_usize)
            .flat_map(|number| frame(kinds[number % kinds.len()], number % 20))
            .collect();
        for step in [1, 3, 9, 100, 8192] {
            let mut frames = begun(now);
            for part in all.chunks(step) {
                assert_eq!(frames.read(part, now), Ok(()), "{step}");
            }
            assert_eq!(frames.read(&frame(PING, 8), now), Err(TooMany));
        }
    }

    #[test]
    fn frames_of_requests_are_not_counted() {
        let now = Instant::now();
        let mut frames = begun(now);
        for kind in [DATA, HEADERS, CONTINUATION] {
            for _ in 0..2 * BURST {
                frames.read(&frame(kind, 12), now).unwrap();
            }
        }
    }

    #[test]
    fn request_pays_for_its_cancellation_and_a_cancellation_for_nothing() {
        const RST_STREAM: u8 = 3;
        let now = Instant::now();
        let mut frames = begun(now);
        for _ in 0..10 * BURST {
            frames.read(&frame(HEADERS, 12), now).unwrap();
            for kind in [RST_STREAM, WINDOW_UPDATE, WINDOW_UPDATE, PING] {
                frames.read(&frame(kind, 4), now).unwrap();
            }
        }
        let refused = (0..100_000).find(|_| frames.read(&frame(RST_STREAM, 4), now).is_err());
        assert!(
            refused.is_some_and(|count| count <= 2 * BURST),
            "{refused:?}"
        );
    }

    #[test]
    fn what_was_begun_and_not_ended_is_known_since_its_first_byte() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut head = frame(HEADERS, 20);
        let mut end = frame(CONTINUATION, 5);
        end[4] = END_HEADERS;
        for whole in [
            frame(PING, 8),
            frame(HEADERS, 0).into_iter().chain(end.clone()).collect(),
            head.iter().copied().chain(end.clone()).collect::<Vec<u8>>(),
        ] {
            let mut frames = begun(start);
            let (last, rest) = whole.split_last().unwrap();
            for byte in rest {
                frames.read(&[*byte], start).unwrap();
                assert_eq!(frames.unfinished_since(), Some(start));
            }
            frames.read(&[*last], later).unwrap();
            assert_eq!(frames.unfinished_since(), None);
        }
        head[4] = END_HEADERS;
        let mut frames = begun(start);
        frames.read(&head, start).unwrap();
        assert_eq!(frames.unfinished_since(), None);
        let data = frame(DATA, 100);
        frames.read(&data[..HEADER - 1], start).unwrap();
        assert_eq!(frames.unfinished_since(), Some(start));
        frames.read(&data[HEADER - 1..50], later).unwrap();
        assert_eq!(
            frames.unfinished_since(),
            None,
            "a body has limits of its own"
        );
        frames.read(&data[50..], later).unwrap();
        frames.read(&frame(PING, 8)[..3], later).unwrap();
        assert_eq!(frames.unfinished_since(), Some(later));
    }

    #[test]
    fn time_and_what_is_sent_earn_more() {
        let start = Instant::now();
        let mut frames = begun(start);
        let mut ping = |now: Instant, sent: usize| {
            frames.sent(sent);
            frames.read(&frame(PING, 8), now)
        };
        // One a millisecond for a minute, after the burst.
        for number in 0..60_000 {
            ping(start + Duration::from_millis(number), 0).unwrap();
        }
        let end = start + Duration::from_secs(60);
        for _ in 0..100_000 {
            // Two for each frame of a large response.
            ping(end, 8 * 1024).unwrap();
            ping(end, 8 * 1024).unwrap();
        }
        let refused = (0..100_000).find(|_| ping(end, 0).is_err());
        assert!(refused.is_some_and(|count| count <= BURST), "{refused:?}");
    }
}
