//! What comes in on an HTTP/1 connection, request by request: nobody gets a byte beyond the end of the
//! request that is being served. What a caller sends ahead is kept until it is its turn (RFC 9112
//! §9.3.2), and then goes through the same checks as any head.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::io::ReadBuf;

use super::chunks::{Chunks, Malformed};
use super::head::Body;

/// Of the next requests, while one is being served, beside what came in one read with the end of a
/// body. What is more waits in the kernel.
const MAX_AHEAD: usize = 4096;

/// Shared by the stream, which reads, and by whoever drives the connection.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    state: Mutex<State>,
    has_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    until: Until,
    /// Bytes that were read, and are nobody's yet: they come before all that is still to be read.
    ahead: BytesMut,
}

/// How much may be read.
#[derive(Debug, Default)]
enum Until {
    /// A head is being read, or the connection is on its way out: as much as comes.
    #[default]
    Open,
    Length(u64),
    Chunked(Chunks),
    /// The request is complete.
    Ended,
}

impl Inbound {
    /// Bytes that come after those that are kept already.
    pub(crate) fn keep(&self, bytes: &[u8]) {
        self.state().ahead.extend_from_slice(bytes);
    }

    /// The next thing is a head, or nothing matters any more.
    pub(crate) fn open(&self) {
        self.state().until = Until::Open;
    }

    /// A request with this `body` begins. Says how many of the bytes `after_head` are its own; the
    /// others are kept.
    ///
    /// # Errors
    /// Its body is not what it has to be.
    pub(crate) fn begin(&self, body: Body, after_head: &[u8]) -> Result<usize, Malformed> {
        let mut state = self.state();
        state.until = match body {
            Body::Length(0) => Until::Ended,
            Body::Length(length) => Until::Length(length),
            Body::Chunked => Until::Chunked(Chunks::default()),
        };
        self.take(&mut state, after_head)
    }

    /// Says how many of the bytes that were just `read` belong to the request; the others are kept.
    ///
    /// # Errors
    /// As of [`Inbound::begin`].
    pub(crate) fn read(&self, read: &[u8]) -> Result<usize, Malformed> {
        let mut state = self.state();
        self.take(&mut state, read)
    }

    /// Fills `buffer` with what was kept, as far as it belongs to the request; `false` when nothing
    /// was.
    ///
    /// # Errors
    /// As of [`Inbound::begin`].
    pub(crate) fn fill(&self, buffer: &mut ReadBuf<'_>) -> Result<bool, Malformed> {
        let mut state = self.state();
        let length = state.ahead.len().min(buffer.remaining());
        let kept = state.ahead.split_to(length);
        let own = self.take(&mut state, &kept)?;
        buffer.put_slice(kept.get(..own).unwrap_or_default());
        Ok(own > 0)
    }

    /// Counts how many of `bytes` belong to the request. The others go back to where they came from:
    /// in front of everything else.
    fn take(&self, state: &mut State, bytes: &[u8]) -> Result<usize, Malformed> {
        let (own, has_ended) = match &mut state.until {
            Until::Open => (bytes.len(), false),
            Until::Length(length) => {
                let left = usize::try_from(*length).unwrap_or(usize::MAX);
                let own = left.min(bytes.len());
                *length -= own as u64;
                (own, *length == 0)
            }
            Until::Chunked(chunks) => {
                let own = chunks.read(bytes).inspect_err(|_| {
                    self.has_failed.store(true, Ordering::Relaxed);
                })?;
                (own, chunks.is_done())
            }
            Until::Ended => (0, true),
        };
        if has_ended {
            state.until = Until::Ended;
        }
        let others = bytes.get(own..).unwrap_or_default();
        if !others.is_empty() {
            let later = std::mem::replace(&mut state.ahead, BytesMut::from(others));
            state.ahead.extend_from_slice(&later);
        }
        Ok(own)
    }

    /// How much more may be kept while a request is being served; `None` while one is being read.
    pub(crate) fn room_ahead(&self) -> Option<usize> {
        let state = self.state();
        match state.until {
            Until::Ended => Some(MAX_AHEAD.saturating_sub(state.ahead.len())),
            Until::Open | Until::Length(_) | Until::Chunked(_) => None,
        }
    }

    /// Whether a body was not what it has to be. The connection ends with it.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(inbound: &Inbound) -> Vec<u8> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        inbound.fill(&mut buffer).unwrap();
        buffer.filled().to_vec()
    }

    #[test]
    fn nobody_gets_what_is_of_the_next_request() {
        for (body, bytes, own) in [
            (Body::Length(0), "GET / H", 0),
            (Body::Length(5), "helloGET", 5),
            (Body::Length(5), "hel", 3),
            (Body::Chunked, "1\r\nx\r\n0\r\n\r\nGET", 11),
        ] {
            let inbound = Inbound::default();
            assert_eq!(inbound.begin(body, bytes.as_bytes()), Ok(own), "{bytes}");
            inbound.open();
            assert_eq!(ahead(&inbound), &bytes.as_bytes()[own..], "{bytes}");
        }
    }

    #[test]
    fn a_body_ends_in_whichever_part_it_ends() {
        let inbound = Inbound::default();
        assert_eq!(inbound.begin(Body::Length(10), b"hel"), Ok(3));
        assert_eq!(inbound.room_ahead(), None);
        assert_eq!(inbound.read(b"lo"), Ok(2));
        assert_eq!(inbound.read(b"worldGET"), Ok(5));
        assert_eq!(inbound.room_ahead(), Some(MAX_AHEAD - 3));
        inbound.keep(b" /");
        assert_eq!(ahead(&inbound), b"", "of the next request");
        inbound.open();
        assert_eq!(ahead(&inbound), b"GET /");
        assert!(!inbound.has_failed());
    }

    #[test]
    fn each_chunked_body_is_checked_anew() {
        let inbound = Inbound::default();
        assert_eq!(inbound.begin(Body::Chunked, b"0\r\n\r\n"), Ok(5));
        assert_eq!(inbound.begin(Body::Chunked, b""), Ok(0));
        assert!(!inbound.has_failed());
        assert_eq!(inbound.read(b"\n"), Err(Malformed));
        assert!(inbound.has_failed());
    }

    /// Drives requests through as a connection does, the heads and bodies read in steps of `step`.
    fn driven(
        stream: &[u8],
        step: usize,
        bodies: &[(usize, Body)],
    ) -> Result<Vec<Vec<u8>>, Malformed> {
        let inbound = Inbound::default();
        inbound.keep(stream);
        let mut buffer = vec![0; step];
        let mut next = || -> Result<Vec<u8>, Malformed> {
            let mut read = ReadBuf::new(&mut buffer);
            inbound.fill(&mut read)?;
            Ok(read.filled().to_vec())
        };
        let mut requests = Vec::new();
        for (head, body) in bodies {
            inbound.open();
            let mut bytes = Vec::new();
            while bytes.len() < *head {
                bytes.extend(next()?);
            }
            let own = inbound.begin(*body, &bytes[*head..])?;
            bytes.truncate(head + own);
            while inbound.room_ahead().is_none() {
                let more = next()?;
                assert!(!more.is_empty(), "the stream ends too early");
                bytes.extend(more);
            }
            assert!(next()?.is_empty(), "nothing beyond the end");
            requests.push(bytes);
        }
        Ok(requests)
    }

    #[test]
    fn requests_come_out_as_they_went_in_however_they_are_cut() {
        let long = [b"1388\r\n", &[b'x'; 5000][..], b"\r\n0\r\n\r\n"].concat();
        let parts: [(&[u8], Body); 6] = [
            (b"hello", Body::Length(5)),
            (b"", Body::Length(0)),
            (&long, Body::Chunked),
            (&[b'y'; 9000], Body::Length(9000)),
            (b"1\r\nz\r\n0\r\nA: b\r\n\r\n", Body::Chunked),
            (b"", Body::Length(0)),
        ];
        let requests: Vec<Vec<u8>> = parts
            .iter()
            .enumerate()
            .map(|(number, (body, _))| [format!("HEAD{number:04}").as_bytes(), body].concat())
            .collect();
        let bodies = parts.map(|(_, body)| (8, body));
        for step in [1, 7, 64, 1000, 4096, 100_000] {
            assert_eq!(
                driven(&requests.concat(), step, &bodies).as_deref(),
                Ok(&requests[..]),
                "{step}"
            );
        }
    }

    #[test]
    fn chunks_of_a_request_that_was_sent_ahead_are_checked_to_their_end() {
        let bad = [
            b"1388\r\n",
            &[b'x'; 5000][..],
            b"\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        ]
        .concat();
        let stream = [&b"FIRSThello"[..], b"AHEAD", &bad[..]].concat();
        let bodies = [(5, Body::Length(5)), (5, Body::Chunked)];
        for step in [1, 64, 4096, 100_000] {
            assert_eq!(driven(&stream, step, &bodies), Err(Malformed), "{step}");
        }
    }
}
