//! Cases over HTTP/2, frame by frame: no library would send what they do.

use std::time::Duration;

use portcullis_e2e::Connection;
use portcullis_e2e::http2_frames::{
    self as frames, END_HEADERS, END_STREAM, PREFACE, field_block, frame,
};
use tokio::time::{Instant, timeout};

use super::catalogue::{Case, Expect, Frame, Outcome, Stream, Word};
use super::http1::{bytes, check_answer};
use super::world::{AttackWorld, HOST};

const PATIENCE: Duration = Duration::from_secs(4);
/// How long nothing has to come until nothing is expected to come.
const QUIET: Duration = Duration::from_millis(700);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Says how many requests the service should have got.
pub(super) async fn run(world: &AttackWorld, case: &Case, failures: &mut Vec<String>) -> usize {
    let mut forwarded = 0;
    for is_tls in [false, true] {
        for is_second in [false, true] {
            let before = world.service.request_count();
            let outcome = attempt(world, case, is_tls, is_second).await;
            let before = before + usize::from(is_second);
            forwarded += usize::from(is_second);
            forwarded += usize::from(case.expect.forwarded.is_some());
            let checked = outcome.and_then(|()| world.check_forwarded(&case.expect, before));
            if let Err(why) = checked {
                let tls = if is_tls { ", TLS" } else { "" };
                let second = if is_second { ", second request" } else { "" };
                failures.push(format!("{} (HTTP/2{tls}{second}): {why}", case.title()));
            }
        }
    }
    forwarded
}

async fn attempt(
    world: &AttackWorld,
    case: &Case,
    is_tls: bool,
    is_second: bool,
) -> Result<(), String> {
    let mut caller = Http2::open(world.connect(is_tls, "h2").await).await;
    let mut stream = 1;
    if is_second {
        let health = [("GET", "/orders/health")];
        caller.send_request(stream, health[0], &[], None).await;
        let answer = caller.answer(stream).await;
        assert!(
            matches!(&answer, Ok(answer) if answer.status == 200),
            "{answer:?}"
        );
        stream = 3;
        caller.answers.clear();
        caller.streams_before = 2;
    }
    if let Some(written) = &case.frames {
        caller.send_frames(world, written).await;
        return caller.check_frames(&case.expect).await;
    }
    let request = case.request().expect("something to send");
    let mut fields: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (world.fill(name).to_ascii_lowercase(), world.fill(value)))
        .collect();
    if let Some(token) = world.token(case) {
        fields.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    let body = request.body.map(|body| bytes(&world.fill(&body)));
    let path = world.fill(&request.path);
    caller
        .send_request(stream, (&request.method, &path), &fields, body)
        .await;
    let answer = caller.answer(stream).await;
    match answer {
        Ok(answer) => check_answer(
            &case.expect,
            answer.status,
            &answer.challenges,
            &answer.body,
        ),
        Err(word) if case.expect.status.allows(&Outcome::Word(word)) => Ok(()),
        Err(word) => Err(format!("{word:?} instead of an answer")),
    }
}

#[derive(Debug, Default, Clone)]
struct Answer {
    status: u16,
    challenges: Vec<String>,
    body: Vec<u8>,
    is_complete: bool,
}

struct Http2 {
    connection: Connection,
    decoder: loona_hpack::Decoder<'static>,
    answers: std::collections::BTreeMap<u32, Answer>,
    resets: std::collections::BTreeSet<u32>,
    is_closed: bool,
    last_stream: u32,
    /// By how much the numbers of streams are more than a case says, which begins with 1.
    streams_before: u32,
}

impl Http2 {
    async fn open(mut connection: Connection) -> Self {
        connection
            .send([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())
            .await;
        Self {
            connection,
            decoder: loona_hpack::Decoder::new(),
            answers: Default::default(),
            resets: Default::default(),
            is_closed: false,
            last_stream: 0,
            streams_before: 0,
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) {
        // The other side may have closed in the middle of this.
        if self.connection.try_send(bytes).await.is_err() {
            self.is_closed = true;
        }
    }

    async fn send_request(
        &mut self,
        stream: u32,
        (method, path): (&str, &str),
        fields: &[(String, String)],
        body: Option<Vec<u8>>,
    ) {
        self.last_stream = stream;
        let pseudo = [
            (":method", method),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", path),
        ];
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = pseudo
            .into_iter()
            .chain(fields)
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect();
        let all: Vec<_> = all
            .iter()
            .map(|(n, v)| (n.as_slice(), v.as_slice()))
            .collect();
        let end = if body.is_none() { END_STREAM } else { 0 };
        let mut out = frames::header_frames(stream, end, &field_block(&all));
        if let Some(body) = body {
            out.extend(frame(DATA, END_STREAM, stream, &body));
        }
        self.send(out).await;
    }

    async fn send_frames(&mut self, world: &AttackWorld, written: &[Frame]) {
        let mut out = Vec::new();
        self.write(world, written, &mut out);
        self.send(out).await;
    }

    fn write(&mut self, world: &AttackWorld, written: &[Frame], out: &mut Vec<u8>) {
        for one in written {
            match one {
                Frame::Headers(headers) => {
                    let stream = self.begin(headers.stream);
                    let fields: Vec<_> = headers
                        .fields
                        .iter()
                        .map(|(name, value)| (bytes(&world.fill(name)), bytes(&world.fill(value))))
                        .collect();
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(name, value)| (name.as_slice(), value.as_slice()))
                        .collect();
                    let end = if headers.end_stream { END_STREAM } else { 0 };
                    let block = field_block(&fields);
                    if headers.end_headers {
                        out.extend(frames::header_frames(stream, end, &block));
                    } else {
                        out.extend(frame(HEADERS, end, stream, &block));
                    }
                }
                Frame::Data(data) => {
                    let end = if data.end_stream { END_STREAM } else { 0 };
                    let text = bytes(&world.fill(&data.text));
                    out.extend(frame(DATA, end, self.current(data.stream), &text));
                }
                Frame::Settings(settings) => {
                    let payload: Vec<u8> = settings
                        .iter()
                        .flat_map(|(id, value)| {
                            [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
                        })
                        .collect();
                    out.extend(frame(SETTINGS, 0, 0, &payload));
                }
                Frame::WindowUpdate { stream, increment } => {
                    let payload = increment.to_be_bytes();
                    out.extend(frame(WINDOW_UPDATE, 0, self.current(*stream), &payload));
                }
                Frame::Reset { stream, code } => {
                    let payload = code.to_be_bytes();
                    out.extend(frame(RST_STREAM, 0, self.current(*stream), &payload));
                }
                Frame::Ping {} => out.extend(frame(PING, 0, 0, &[0; 8])),
                Frame::Raw(raw) => {
                    let stream = match raw.kind {
                        HEADERS => self.begin(raw.stream),
                        _ => self.current(raw.stream),
                    };
                    let text = bytes(&world.fill(&raw.text));
                    out.extend(frame(raw.kind, raw.flags, stream, &text));
                }
                Frame::Repeat { times, frames } => {
                    for _ in 0..*times {
                        self.write(world, frames, out);
                    }
                }
            }
        }
    }

    /// A stream that a head begins.
    fn begin(&mut self, stream: Stream) -> u32 {
        self.last_stream = match stream {
            Stream::Number(number) => self.shifted(number),
            Stream::Next(_) if self.last_stream == 0 => 1,
            Stream::Next(_) => self.last_stream + 2,
        };
        self.last_stream
    }

    fn current(&self, stream: Stream) -> u32 {
        match stream {
            Stream::Number(number) => self.shifted(number),
            Stream::Next(_) => self.last_stream.max(1),
        }
    }

    /// The connection stays the connection, and a number that spells something goes on spelling it.
    const fn shifted(&self, number: u32) -> u32 {
        match number {
            1..=0xFFFF => number + self.streams_before,
            _ => number,
        }
    }

    /// The answer on `stream`, or how it ended without one.
    async fn answer(&mut self, stream: u32) -> Result<Answer, Word> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self
                .answers
                .get(&stream)
                .filter(|answer| answer.is_complete)
            {
                return Ok(answer.clone());
            }
            if self.resets.contains(&stream) {
                return Err(Word::Reset);
            }
            if self.is_closed || Instant::now() > deadline {
                assert!(self.is_closed, "neither an answer nor a reset");
                return Err(Word::Closed);
            }
            let _ = timeout(PATIENCE, self.read_frame()).await;
        }
    }

    /// Reads until there is nothing more to come, and holds what came to what was expected.
    async fn check_frames(&mut self, expect: &Expect) -> Result<(), String> {
        let may_reset = expect.status.allows(&Outcome::Word(Word::Reset));
        let is_done = |this: &Self| {
            let last = this.answers.get(&this.last_stream);
            this.is_closed
                || last.is_some_and(|answer| answer.is_complete)
                || (may_reset && this.resets.contains(&this.last_stream))
        };
        while !is_done(self) {
            if timeout(QUIET, self.read_frame()).await.is_err() {
                break;
            }
        }
        let mut wrong = Vec::new();
        for answer in self.answers.values() {
            match check_answer(expect, answer.status, &answer.challenges, &answer.body) {
                Ok(()) => return Ok(()),
                Err(why) => wrong.push(why),
            }
        }
        let words = [
            (Word::Closed, self.is_closed),
            (Word::Reset, !self.resets.is_empty()),
        ];
        for (word, has_happened) in words {
            if has_happened && expect.status.allows(&Outcome::Word(word)) {
                return Ok(());
            }
        }
        Err(format!(
            "answers {wrong:?}, resets {:?}, closed {}",
            self.resets, self.is_closed
        ))
    }

    async fn read_frame(&mut self) {
        let Some(head) = self.connection.read_exactly(9).await else {
            self.is_closed = true;
            return;
        };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let Some(payload) = self.connection.read_exactly(length).await else {
            self.is_closed = true;
            return;
        };
        match kind {
            HEADERS => {
                assert_ne!(flags & END_HEADERS, 0, "our answers fit into one frame");
                let fields = self.decoder.decode(&payload).expect("HPACK");
                let answer = self.answers.entry(stream).or_default();
                for (name, value) in fields {
                    let value = String::from_utf8_lossy(&value).into_owned();
                    match name.as_slice() {
                        b":status" => answer.status = value.parse().unwrap(),
                        b"www-authenticate" => answer.challenges.push(value),
                        _ => {}
                    }
                }
                answer.is_complete = flags & END_STREAM != 0;
            }
            DATA => {
                let answer = self.answers.entry(stream).or_default();
                answer.body.extend(payload);
                answer.is_complete = flags & END_STREAM != 0;
            }
            RST_STREAM => {
                self.resets.insert(stream);
            }
            SETTINGS if flags & 1 == 0 => self.send(frame(SETTINGS, 1, 0, b"")).await,
            GOAWAY => self.is_closed = true,
            _ => {}
        }
    }
}
