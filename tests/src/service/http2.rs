//! HTTP/2, by hyper.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Behaviour, Received, Response, Shared};

type Body = BoxBody<Bytes, Infallible>;

/// Serves one connection until it ends.
pub(super) async fn serve<S>(
    shared: Arc<Shared>,
    stream: S,
    connection: usize,
    certificate: Option<Vec<u8>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        answer(
            Arc::clone(&shared),
            request,
            connection,
            certificate.clone(),
        )
    });
    // An error is a gateway that went away.
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An error resets the stream.
async fn answer(
    shared: Arc<Shared>,
    request: http::Request<Incoming>,
    connection: usize,
    client_certificate: Option<Vec<u8>>,
) -> Result<http::Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await.map_err(std::io::Error::other)?;
    let trailers = collected.trailers().map(fields).unwrap_or_default();
    let body = collected.to_bytes();
    let mut received_fields = fields(&parts.headers);
    if let Some(authority) = parts.uri.authority() {
        received_fields.push(("host".to_owned(), authority.to_string()));
    }
    let behaviour = shared.record(Received {
        connection,
        head: Vec::new(),
        method: parts.method.to_string(),
        target: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        fields: received_fields,
        body: body.to_vec(),
        trailers,
        client_certificate,
    });
    match behaviour {
        Behaviour::Respond(answer) => {
            tokio::time::sleep(answer.delay).await;
            Ok(response(&answer))
        }
        Behaviour::Echo => Ok(response(&Response::new(200).body(body.to_vec()))),
        Behaviour::Stall => std::future::pending().await,
        Behaviour::Write(_) | Behaviour::WriteAndClose(_) | Behaviour::WriteAndReset(_) => Err(
            std::io::Error::other("the stream is reset as the test asked"),
        ),
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

fn response(answer: &Response) -> http::Response<Body> {
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = Full::new(Bytes::from(answer.body.clone()));
    let body = if answer.trailers.is_empty() {
        body.boxed()
    } else {
        let trailers: HeaderMap = answer
            .trailers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                let value: HeaderValue = value.parse().unwrap();
                (name, value)
            })
            .collect();
        body.with_trailers(std::future::ready(Some(Ok(trailers))))
            .boxed()
    };
    response.body(body).unwrap()
}
