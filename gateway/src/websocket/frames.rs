//! Where frames end (RFC 6455 §5.2), so that the gateway can speak between them. What is in them is
//! not its business.

/// Follows one direction of a WebSocket, byte by byte.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    /// Of a header that is not complete: the bytes that say how long it is, or how long the payload.
    header: Vec<u8>,
    /// Bytes of the frame that are still to come, once its header is known.
    left: u64,
    has_close: bool,
}

/// The opcode of a frame that closes.
const CLOSE: u8 = 8;
/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

impl Frames {
    /// Whether everything so far was whole frames.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.header.is_empty()
    }

    /// Whether the last frame of this direction is complete: one that closes (RFC 6455 §5.5.1).
    pub(super) fn are_closed(&self) -> bool {
        self.has_close && self.is_between()
    }

    /// Whether a frame that closes may be the next one.
    pub(super) fn can_be_closed(&self) -> bool {
        self.is_between() && !self.has_close
    }

    /// Takes in the next bytes, all of them, or only those up to the end of the frame that has begun.
    /// Says how many that are.
    pub(super) fn advance(&mut self, bytes: &[u8], reach: Reach) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            if reach == Reach::EndOfFrame && self.is_between() {
                break;
            }
            if self.left > 0 {
                let payload = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                self.left -= payload as u64;
                taken += payload;
                continue;
            }
            self.header.extend(rest.first());
            taken += 1;
            if let Some(payload) = payload_length(&self.header) {
                let opcode = self.header.first().map(|first| first & 0x0F);
                self.has_close |= opcode == Some(CLOSE);
                self.header.clear();
                self.left = payload;
            }
        }
        taken
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Everything,
    EndOfFrame,
}

/// The payload's length, once the header is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let length = *header.get(1)?;
    let mask = if length & 0x80 == 0 { 0 } else { 4 };
    let (extended, short) = match length & 0x7F {
        126 => (2, 0),
        127 => (8, 0),
        short => (0, u64::from(short)),
    };
    debug_assert!(header.len() <= MAX_HEADER);
    if header.len() < 2 + extended + mask {
        return None;
    }
    let long = header.get(2..2 + extended).unwrap_or_default();
    let long = long
        .iter()
        .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    Some(short + long)
}

/// Why the gateway closes a WebSocket (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// Going away.
    GoingAway = 1001,
    /// The rules do not allow it any longer.
    PolicyViolation = 1008,
}

/// A frame that closes (RFC 6455 §5.5.1), as a server sends it; `masked`: as a client does. A mask is
/// against scripts that choose what is sent; nobody chose this.
pub(super) fn close(code: CloseCode, reason: &str, masked: bool) -> Vec<u8> {
    let mut payload = (code as u16).to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    // 125 bytes at most: the reasons are ours, and short.
    payload.truncate(125);
    #[expect(clippy::cast_possible_truncation, reason = "125 at most")]
    let length = payload.len() as u8;
    let mut frame = vec![0x80 | CLOSE];
    if masked {
        frame.push(0x80 | length);
        frame.extend_from_slice(&[0; 4]);
    } else {
        frame.push(length);
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6455 §5.7, and longer ones.
    fn frames() -> Vec<Vec<u8>> {
        let long = |length: &[u8], mask: &[u8], payload: usize| {
            [&[0x82], length, mask, &vec![0xAA; payload][..]].concat()
        };
        vec![
            vec![0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F],
            vec![
                0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58,
            ],
            vec![0x01, 0x03, 0x48, 0x65, 0x6C],
            vec![0x80, 0x02, 0x6C, 0x6F],
            vec![0x89, 0x00],
            vec![0x89, 0x80, 1, 2, 3, 4],
            long(&[0x7E, 0x01, 0x00], &[], 256),
            long(&[0xFE, 0x01, 0x00], &[1, 2, 3, 4], 256),
            long(&[0x7F, 0, 0, 0, 0, 0, 1, 0, 0], &[], 65_536),
            close(CloseCode::GoingAway, "bye", false),
            close(CloseCode::PolicyViolation, "bye", true),
        ]
    }

    #[test]
    fn ends_are_found_however_the_bytes_are_cut() {
        let stream = frames().concat();
        let ends: Vec<usize> = frames()
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        for step in [1, 2, 3, 7, 1000, 70_000] {
            let mut tracker = Frames::default();
            let mut at = 0;
            for part in stream.chunks(step) {
                assert_eq!(tracker.advance(part, Reach::Everything), part.len());
                at += part.len();
                assert_eq!(tracker.is_between(), ends.contains(&at), "{step} {at}");
            }
        }
    }

    #[test]
    fn nothing_is_taken_beyond_the_frame_that_has_begun() {
        for frame in frames() {
            for begun in 1..frame.len().min(20) {
                let mut tracker = Frames::default();
                tracker.advance(&frame[..begun], Reach::Everything);
                let next = [&frame[begun..], &frames()[0][..]].concat();
                let rest = frame.len() - begun;
                assert_eq!(tracker.advance(&next, Reach::EndOfFrame), rest);
                assert!(tracker.is_between());
                assert_eq!(tracker.advance(&next, Reach::EndOfFrame), 0);
            }
        }
    }

    #[test]
    fn length_of_all_ones_is_no_overflow() {
        let mut tracker = Frames::default();
        let header = [
            0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0,
        ];
        assert_eq!(tracker.advance(&header, Reach::Everything), header.len());
        assert!(!tracker.is_between());
        assert_eq!(tracker.advance(&[0; 100], Reach::Everything), 100);
    }
}
