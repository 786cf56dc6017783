//! Pingora's view of a request → what policy may know of it.

use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora_http::RequestHeader;
use portcullis_config::Limits;
use portcullis_policy::{Denial, Host, Method, Request, RequestPath};

use super::head::is_token;

/// A request as it arrived, accepted in form.
#[derive(Debug)]
pub(crate) struct Arrived<'s> {
    method: Option<Method>,
    host: Host,
    path: RequestPath<'s>,
    query: Option<&'s str>,
}

impl<'s> Arrived<'s> {
    /// Reads the request line and the authority.
    ///
    /// # Errors
    /// What could be read in two ways, or is too long.
    pub(crate) fn read(header: &'s RequestHeader, limits: &Limits) -> Result<Self, Denial> {
        if header.method == http::Method::CONNECT {
            return Err(Denial::RequestMalformed);
        }
        if header.version == Version::HTTP_2 {
            check_http2(header, limits)?;
        }
        let target = header.uri.path_and_query().ok_or(Denial::PathAmbiguous)?;
        if target.as_str().len() > limits.target_bytes {
            return Err(Denial::TargetTooLong);
        }
        // `raw_path` is what goes to the service. A target without a path has the path `/` to the
        // parser of URIs, and something else to whoever gets the raw one.
        if !target.as_str().starts_with('/') || header.raw_path() != target.as_str().as_bytes() {
            return Err(Denial::PathAmbiguous);
        }
        Ok(Self {
            method: header.method.as_str().parse().ok(),
            host: authority(header)?,
            path: RequestPath::parse(target.path()).map_err(|_| Denial::PathAmbiguous)?,
            query: target.query(),
        })
    }

    /// What policy looks at.
    pub(crate) fn as_policy(&self) -> Request<'_> {
        Request {
            method: self.method,
            host: Some(&self.host),
            path: self.path,
        }
    }

    /// The host that is asked for.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// The query, without its `?`.
    pub(crate) const fn query(&self) -> Option<&'s str> {
        self.query
    }
}

/// Whether the body, as far as its length is announced, has no more bytes than `most`.
///
/// # Errors
/// [`Denial::BodyTooLarge`].
pub(crate) fn check_length(header: &RequestHeader, most: u64) -> Result<(), Denial> {
    let length = header.headers.get(http::header::CONTENT_LENGTH);
    // A length beyond 64 bits has been refused; so has what is no number.
    let length = length.and_then(|length| length.to_str().ok()?.trim().parse().ok());
    match length.is_some_and(|length: u64| length > most) {
        true => Err(Denial::BodyTooLarge),
        false => Ok(()),
    }
}

/// What [`super::head`] sees to in HTTP/1. Pingora has refused what HTTP/2 itself refuses.
fn check_http2(header: &RequestHeader, limits: &Limits) -> Result<(), Denial> {
    let is_known = |scheme: &str| matches!(scheme, "http" | "https");
    // A URI without an authority has no scheme, either: then the field `Host` says the host
    // (RFC 9113 §8.3.1), and which scheme was said cannot be known.
    let is_refused = match header.uri.scheme_str() {
        Some(scheme) => !is_known(scheme),
        None => header.uri.authority().is_some(),
    };
    if is_refused {
        return Err(Denial::RequestMalformed);
    }
    if header.headers.len() > limits.headers {
        return Err(Denial::HeadersTooLarge);
    }
    let mut bytes = 0;
    for (name, value) in &header.headers {
        // As a line of HTTP/1 would count.
        bytes += name.as_str().len() + value.len() + 4;
        if *name == http::header::EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Denial::RequestMalformed);
        }
        // The parser below lets a quotation mark pass.
        if !name.as_str().bytes().all(is_token) {
            return Err(Denial::RequestMalformed);
        }
        // RFC 9113 §8.2.1.
        if value.as_bytes().trim_ascii().len() != value.len() {
            return Err(Denial::RequestMalformed);
        }
    }
    if bytes > limits.header_bytes {
        return Err(Denial::HeadersTooLarge);
    }
    if header
        .headers
        .get_all(http::header::CONTENT_LENGTH)
        .iter()
        .count()
        > 1
    {
        return Err(Denial::RequestMalformed);
    }
    Ok(())
}

/// The one authority of a request: `:authority` in HTTP/2, that of the target in absolute form, or
/// the field `Host`. Pingora has refused requests in which two of them differ.
pub(crate) fn authority_text(header: &RequestHeader) -> Option<&[u8]> {
    match header.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => header
            .headers
            .get(http::header::HOST)
            .map(HeaderValue::as_bytes),
    }
}

fn authority(header: &RequestHeader) -> Result<Host, Denial> {
    if header.headers.get_all(http::header::HOST).iter().count() > 1 {
        return Err(Denial::AuthorityInvalid);
    }
    match authority_text(header) {
        Some(authority) => std::str::from_utf8(authority)
            .ok()
            .and_then(|authority| Host::from_authority(authority).ok())
            .ok_or(Denial::AuthorityInvalid),
        None => Err(Denial::AuthorityInvalid),
    }
}

/// The value of a field that is there once.
pub(crate) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
