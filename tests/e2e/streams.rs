//! Bodies that take long: event streams, streams both ways and long uploads pass bit by bit, and
//! outlive every limit that is about silence.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, request, response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use portcullis_e2e::{DEADLINE, Gateway, GatewayYaml, Http2Connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// Every time limit that a stream could run into, but that of the route [`PATIENT`].
const LIMIT: Duration = Duration::from_secs(2);
/// Longer than any of them.
const SILENCE: Duration = Duration::from_secs(3);
/// Shorter than any of them.
const GAP: Duration = Duration::from_millis(400);

/// On a route with a larger `response_timeout`.
const PATIENT: &str = "/patient/stream";
/// On a route without.
const PLAIN: &str = "/plain/stream";

const POLICY: &str = r#"
owner: streams-team
routes:
  - name: patient
    match: { path: "/patient/{*rest}" }
    upstream: streams
    public: true
    limits: { response_timeout: 30s, body_timeout: 30s }
  - name: plain
    match: { path: "/plain/{*rest}" }
    upstream: streams
    public: true
"#;

type Body = BoxBody<Bytes, Infallible>;
type Answer = oneshot::Sender<Response<Channel<Bytes>>>;

/// A service that hands its requests to the test, which reads and answers them bit by bit.
struct StreamingService {
    address: SocketAddr,
    requests: mpsc::Receiver<Received>,
    accepting: JoinHandle<()>,
}

/// A request whose body may still be on its way.
struct Received {
    head: request::Parts,
    body: Incoming,
    answer: Answer,
}

impl StreamingService {
    /// Speaks HTTP/1.1, and HTTP/2 with prior knowledge.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to_test, requests) = mpsc::channel(1);
        Self {
            address,
            requests,
            accepting: tokio::spawn(accept(listener, to_test)),
        }
    }

    async fn next_request(&mut self) -> Received {
        within(self.requests.recv()).await.expect("a request")
    }
}

impl Drop for StreamingService {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, to_test: mpsc::Sender<Received>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let to_test = to_test.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| hand_over(request, to_test.clone()));
            // An error is a gateway that went away.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn hand_over(
    request: Request<Incoming>,
    to_test: mpsc::Sender<Received>,
) -> Result<Response<Channel<Bytes>>, std::io::Error> {
    let (answer, answered) = oneshot::channel();
    let (head, body) = request.into_parts();
    let received = Received { head, body, answer };
    let gone = || std::io::Error::other("the test has ended");
    to_test.send(received).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}

/// Begins the answer. Its body is what is sent by the returned sender.
fn begin(answer: Answer, head: response::Builder) -> Sender<Bytes> {
    let (sender, body) = Channel::new(1);
    let answered = answer.send(head.body(body).unwrap());
    assert!(answered.is_ok(), "the gateway did not wait for the answer");
    sender
}

/// A gateway with small limits before a streaming service.
struct Edge {
    gateway: Gateway,
    service: StreamingService,
}

impl Edge {
    async fn start(protocol: &str) -> Self {
        let service = StreamingService::start().await;
        let limit = format!("{}s", LIMIT.as_secs());
        let yaml = GatewayYaml::new()
            .section(&format!(
                "limits: {{ header_timeout: {limit}, idle_timeout: {limit}, \
                 body_timeout: {limit}, body_bytes_per_second: {SLOWEST} }}"
            ))
            .upstream_flow(&format!(
                "name: streams, addresses: [\"{}\"], protocol: {protocol}, \
                 timeouts: {{ response: {limit}, idle: {limit} }}",
                service.address
            ));
        let gateway = Gateway::start(&[
            ("portcullis.yaml", &yaml.render()),
            ("policy/streams.yaml", POLICY),
        ])
        .await;
        Self { gateway, service }
    }

    /// Sends a request over a connection of its own; the result is there when the response begins.
    fn send(&self, request: Request<Body>) -> JoinHandle<hyper::Result<Response<Incoming>>> {
        tokio::spawn(send(self.gateway.address("public"), request))
    }
}

async fn send(address: SocketAddr, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
    if request.version() == Version::HTTP_2 {
        return Http2Connection::open(address).await.begin(request).await;
    }
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // An error reaches the request.
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await
}

/// A request in the form that its version wants.
fn request(version: Version, method: &str, target: &str) -> request::Builder {
    let request = Request::builder().method(method).version(version);
    if version == Version::HTTP_2 {
        request.uri(format!("http://api.acme.example{target}"))
    } else {
        request.uri(target).header("host", "api.acme.example")
    }
}

/// A body that is what is sent by the returned sender.
fn streamed() -> (Sender<Bytes>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// The response, as soon as it has begun.
async fn begun(asked: JoinHandle<hyper::Result<Response<Incoming>>>) -> Response<Incoming> {
    within(asked).await.unwrap().expect("a response")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it comes in time")
}

/// Sends a part, and wants to see it, and nothing else, come out at the other end. The next part is
/// sent after that, so whoever keeps one back for company keeps it for ever.
async fn pass(sender: &mut Sender<Bytes>, receiver: &mut Incoming, part: &[u8]) {
    let sent = Bytes::copy_from_slice(part);
    sender.send_data(sent).await.unwrap();
    let mut passed = Vec::new();
    while passed.len() < part.len() {
        let frame = within(receiver.frame()).await;
        let frame = frame.expect("more of the body").expect("a whole body");
        passed.extend(frame.into_data().expect("no trailers yet"));
    }
    assert_eq!(passed, part);
}

/// The trailers of a body that has to end here, and properly.
async fn end(body: Incoming) -> HeaderMap {
    let rest = within(body.collect()).await.expect("a proper end");
    let trailers = rest.trailers().cloned().unwrap_or_default();
    assert_eq!(rest.to_bytes(), "", "more than was sent");
    trailers
}

/// Tells a story for each pair of versions that a caller and a service may speak, side by side.
async fn for_each_pair_of_versions<F>(story: impl Fn(Version, &'static str) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut stories = Vec::new();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for protocol in ["http1", "http2"] {
            let story = tokio::spawn(story(version, protocol));
            stories.push((version, protocol, story));
        }
    }
    for (version, protocol, story) in stories {
        let told = story.await;
        assert!(
            told.is_ok(),
            "{version:?} of a caller, {protocol} of a service: {told:?}"
        );
    }
}

/// Asks for events; what is returned sends them, and receives them.
async fn event_stream(
    edge: &mut Edge,
    version: Version,
    target: &str,
) -> (Sender<Bytes>, Response<Incoming>) {
    let request = request(version, "GET", target)
        .header("accept", "text/event-stream")
        .body(Empty::<Bytes>::new().boxed())
        .unwrap();
    let asked = edge.send(request);
    let received = edge.service.next_request().await;
    let head = Response::builder().header("content-type", "text/event-stream");
    let events = begin(received.answer, head);
    // No event has been sent.
    let response = begun(asked).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    (events, response)
}

fn event(n: usize) -> Vec<u8> {
    format!("id: {n}\ndata: it happened again\n\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_reaches_the_caller_as_it_is_sent_and_silence_ends_no_patient_stream() {
    for_each_pair_of_versions(|version, protocol| async move {
        let mut edge = Edge::start(protocol).await;
        let (mut events, mut response) = event_stream(&mut edge, version, PATIENT).await;
        for n in 0..9 {
            if n % 3 == 1 {
                sleep(SILENCE).await;
            }
            pass(&mut events, response.body_mut(), &event(n)).await;
        }
        drop(events);
        end(response.into_body()).await;
        let line = edge.gateway.wait_for_access_log(1).await.remove(0);
        assert_eq!(line["portcullis.code"], "none", "{line}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_a_route_without_a_larger_limit_is_cut_off_by_silence_and_does_not_seem_whole() {
    for_each_pair_of_versions(|version, protocol| async move {
        let mut edge = Edge::start(protocol).await;
        let (mut events, mut response) = event_stream(&mut edge, version, PLAIN).await;
        // It is not about how long all of it takes.
        for n in 0..8 {
            sleep(GAP).await;
            pass(&mut events, response.body_mut(), &event(n)).await;
        }
        let silent = Instant::now();
        let cut = within(response.body_mut().frame()).await;
        assert!(matches!(cut, Some(Err(_))), "not cut off: {cut:?}");
        let lasted = silent.elapsed();
        assert!(lasted > LIMIT / 2, "cut off after {lasted:?}");
        let line = edge.gateway.wait_for_access_log(1).await.remove(0);
        assert_eq!(line["portcullis.code"], "upstream_timeout", "{line}");
        // The service learns of it, too.
        within(async { while events.send_data(event(8).into()).await.is_ok() {} }).await;
    })
    .await;
}

fn grpc_message(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0_u8][..], &length, text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_messages_pass_both_ways_in_turns_and_then_the_trailers() {
    let mut edge = Edge::start("http2").await;
    let (mut calls, body) = streamed();
    let request = request(Version::HTTP_2, "POST", "/patient/Talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let asked = edge.send(request);
    let mut received = edge.service.next_request().await;
    assert_eq!(received.head.method, "POST");
    assert_eq!(received.head.uri.path(), "/patient/Talk");
    assert_eq!(received.head.headers["content-type"], "application/grpc");
    assert_eq!(received.head.headers["te"], "trailers");

    let first = grpc_message("call 0");
    pass(&mut calls, &mut received.body, &first).await;
    let head = Response::builder().header("content-type", "application/grpc");
    let mut answers = begin(received.answer, head);
    let mut response = begun(asked).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    for n in 0..6 {
        let answer = grpc_message(&format!("answer {n}"));
        pass(&mut answers, response.body_mut(), &answer).await;
        if n == 2 {
            // Of both, as each may wait for the other.
            sleep(SILENCE).await;
        }
        let call = grpc_message(&format!("call {}", n + 1));
        pass(&mut calls, &mut received.body, &call).await;
    }

    // The caller has said all; the service has not.
    drop(calls);
    end(received.body).await;
    let last = grpc_message("last answer");
    pass(&mut answers, response.body_mut(), &last).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("all said"));
    answers.send_trailers(trailers.clone()).await.unwrap();
    drop(answers);
    assert_eq!(end(response.into_body()).await, trailers);
}

/// Bytes in a part of an upload, one of which is sent every [`GAP`].
const PART: usize = 1024;
/// Takes three times [`LIMIT`].
const PARTS: u8 = 16;
/// Bytes per second that an upload has to have on average; it has two and a half times as many.
const SLOWEST: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    /// `Content-Length`.
    Announced,
    /// Chunks, or frames.
    Open,
}

async fn upload(version: Version, protocol: &'static str, length: Length) {
    let mut edge = Edge::start(protocol).await;
    // From an HTTP/2 service a response has to begin within `response` of the request's head, however
    // steadily the body comes, so there only a patient route outlasts that one.
    let target = if protocol == "http2" { PATIENT } else { PLAIN };
    let (mut parts, body) = streamed();
    let mut request = request(version, "POST", target);
    if length == Length::Announced {
        request = request.header("content-length", PART * usize::from(PARTS));
    }
    let begun_at = Instant::now();
    let asked = edge.send(request.body(body).unwrap());
    let mut received = edge.service.next_request().await;
    for n in 0..PARTS {
        pass(&mut parts, &mut received.body, &[b'a' + n; PART]).await;
        sleep(GAP).await;
    }
    drop(parts);
    end(received.body).await;
    assert!(begun_at.elapsed() > 3 * LIMIT, "too short to show anything");
    drop(begin(received.answer, Response::builder().status(201)));
    let response = begun(asked).await;
    assert_eq!(response.status(), 201);
    end(response.into_body()).await;
    // Once, and not again.
    assert!(edge.service.requests.try_recv().is_err());
    let line = edge.gateway.wait_for_access_log(1).await.remove(0);
    let bytes = PART * usize::from(PARTS);
    assert_eq!(line["http.request.body.size"], bytes, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_of_announced_length_outlives_every_limit_and_each_byte_arrives_once() {
    for_each_pair_of_versions(|version, protocol| upload(version, protocol, Length::Announced))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_of_open_length_outlives_every_limit_and_each_byte_arrives_once() {
    for_each_pair_of_versions(|version, protocol| upload(version, protocol, Length::Open)).await;
}

/// The service has to see all of it before it answers, or takes no more of it: the caller is not slow.
#[tokio::test(flavor = "multi_thread")]
async fn upload_that_outlasts_the_patience_with_an_http2_service_is_not_the_callers_fault() {
    for (version, is_read) in [
        (Version::HTTP_11, true),
        (Version::HTTP_11, false),
        (Version::HTTP_2, true),
        (Version::HTTP_2, false),
    ] {
        let mut edge = Edge::start("http2").await;
        let (mut parts, body) = streamed();
        let asked = edge.send(request(version, "POST", PLAIN).body(body).unwrap());
        let mut received = edge.service.next_request().await;
        // Of one that is not read, more than anybody keeps.
        let part = if is_read { PART } else { 256 * PART };
        while !asked.is_finished() {
            let sent = timeout(GAP, parts.send_data(vec![b'a'; part].into())).await;
            // The gateway takes no more of it once it has given up.
            if matches!(sent, Ok(Err(_))) {
                break;
            }
            if is_read {
                drop(timeout(GAP, received.body.frame()).await);
            }
        }
        let answer = begun(asked).await;
        assert_eq!(answer.status(), 504, "{version:?}, read: {is_read}");
        let line = edge.gateway.wait_for_access_log(1).await.remove(0);
        assert_eq!(line["portcullis.code"], "upstream_timeout", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_that_pauses_goes_on_where_the_route_lets_it_and_is_given_up_elsewhere() {
    for_each_pair_of_versions(|version, protocol| async move {
        let mut edge = Edge::start(protocol).await;
        for (target, status) in [(PATIENT, 201), (PLAIN, 408)] {
            let (mut parts, body) = streamed();
            let asked = edge.send(request(version, "POST", target).body(body).unwrap());
            let mut received = edge.service.next_request().await;
            pass(&mut parts, &mut received.body, &[b'a'; 8 * PART]).await;
            let silent = Instant::now();
            if status == 201 {
                sleep(SILENCE).await;
                pass(&mut parts, &mut received.body, &[b'b'; PART]).await;
                drop(parts);
                end(received.body).await;
                drop(begin(received.answer, Response::builder().status(201)));
                assert_eq!(begun(asked).await.status(), 201);
                continue;
            }
            // Over HTTP/2 it may be a reset, and towards an HTTP/2 service that one is slow.
            let outcome = within(asked).await.unwrap();
            let answered = outcome.map(|response| response.status().as_u16());
            assert!(
                matches!(answered, Ok(408 | 504) | Err(_)),
                "{version:?}, {protocol}: {answered:?}"
            );
            assert!(silent.elapsed() > LIMIT / 2);
            drop(parts);
        }
    })
    .await;
}
