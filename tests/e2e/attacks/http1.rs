//! Cases over HTTP/1.1: by the byte, plain and TLS, as the first request of a connection and later.

use std::time::Duration;

use portcullis_e2e::{Connection, RawResponse};
use tokio::time::timeout;

use super::catalogue::{Case, Expect, Outcome};
use super::world::{AttackWorld, HOST};

const PATIENCE: Duration = Duration::from_secs(4);

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
                let how = match (is_tls, is_second) {
                    (false, false) => "HTTP/1.1",
                    (false, true) => "HTTP/1.1, second request",
                    (true, false) => "HTTP/1.1, TLS",
                    (true, true) => "HTTP/1.1, TLS, second request",
                };
                failures.push(format!("{} ({how}): {why}", case.title()));
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
    let mut connection = world.connect(is_tls, "http/1.1").await;
    if is_second {
        let good = format!("GET /orders/health HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let response = connection.request(good).await;
        assert_eq!(response.status, 200);
    }
    let (bytes, has_body) = request(world, case);
    // The other side may stop reading in the middle of this.
    let _ = connection.try_send(bytes).await;
    let Ok(response) = timeout(PATIENCE, read(&mut connection, has_body)).await else {
        return Err("no answer".to_owned());
    };
    check(&case.expect, response.as_ref())?;
    if case.expect.closed && response.is_some() {
        let rest = timeout(PATIENCE, connection.read_to_end()).await;
        match rest {
            Err(_) => return Err("the connection stays open".to_owned()),
            Ok(rest) if rest.starts_with(b"HTTP/1.") => {
                let rest = String::from_utf8_lossy(&rest).into_owned();
                return Err(format!("another answer: {rest:.100}"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The answer that counts; `None` when the connection was closed instead.
async fn read(connection: &mut Connection, has_body: bool) -> Option<RawResponse> {
    loop {
        let response = match has_body {
            true => connection.read_response_or_close().await?,
            false => connection.read_head_response().await,
        };
        if response.status >= 200 {
            return Some(response);
        }
    }
}

fn check(expect: &Expect, response: Option<&RawResponse>) -> Result<(), String> {
    let Some(response) = response else {
        let closed = Outcome::Word(super::catalogue::Word::Closed);
        return match expect.status.allows(&closed) {
            true => Ok(()),
            false => Err("closed without an answer".to_owned()),
        };
    };
    let values = |name: &str| -> Vec<String> {
        response
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
            .collect()
    };
    check_answer(
        expect,
        response.status,
        &values("www-authenticate"),
        &response.body,
    )
}

/// What every protocol's answer is held to.
pub(super) fn check_answer(
    expect: &Expect,
    status: u16,
    challenges: &[String],
    body: &[u8],
) -> Result<(), String> {
    if !expect.status.allows(&Outcome::Status(status)) {
        let body = String::from_utf8_lossy(body);
        return Err(format!("status {status}: {body:.200}"));
    }
    if let Some(code) = &expect.code
        && !body.is_empty()
    {
        let problem: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| format!("no problem: {error}"))?;
        if problem["code"] != code.as_str() {
            return Err(format!("code {}", problem["code"]));
        }
    }
    if let Some(wanted) = &expect.challenge {
        let challenge = challenges.join("|");
        let is_met = match wanted.as_str() {
            "none" => challenges.is_empty(),
            "bearer" => {
                challenges.len() == 1
                    && challenge.starts_with("Bearer ")
                    && !challenge.contains("error=")
            }
            error => challenges.len() == 1 && challenge.contains(&format!("error=\"{error}\"")),
        };
        if !is_met {
            return Err(format!("challenge {challenge:?}, not {wanted}"));
        }
    }
    Ok(())
}

/// What is sent, and whether the answer to it has a body.
fn request(world: &AttackWorld, case: &Case) -> (Vec<u8>, bool) {
    let body = case.body.as_ref().map(|body| bytes(&world.fill(body)));
    if let Some(raw) = &case.raw {
        return with_body_flag([bytes(&world.fill(raw)), body.unwrap_or_default()].concat());
    }
    if let Some(lines) = &case.head {
        let lines: Vec<_> = lines.iter().map(|line| world.fill(line)).collect();
        let head = format!("{}\r\n\r\n", lines.join("\r\n"));
        return with_body_flag([bytes(&head), body.unwrap_or_default()].concat());
    }
    let request = case.request().expect("something to send");
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {HOST}\r\n",
        request.method,
        world.fill(&request.path)
    );
    if let Some(token) = world.token(case) {
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    for (name, value) in &request.headers {
        head.push_str(&format!("{}: {}\r\n", world.fill(name), world.fill(value)));
    }
    let body = request.body.map(|body| bytes(&world.fill(&body)));
    if let Some(body) = &body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    with_body_flag([bytes(&head), body.unwrap_or_default()].concat())
}

fn with_body_flag(bytes: Vec<u8>) -> (Vec<u8>, bool) {
    let has_body = !bytes.starts_with(b"HEAD ");
    (bytes, has_body)
}

/// Characters up to U+00FF are bytes; what is beyond is UTF-8.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(character.to_string().bytes()),
        }
    }
    bytes
}
