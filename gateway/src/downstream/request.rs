//! Pingora's view of a request → what policy may know of it.

use http::Version;
use pingora_http::RequestHeader;
use portcullis_config::Limits;
use portcullis_policy::{Denial, Host, Method, Request, RequestPath};

/// A request as it arrived, accepted in form.
#[derive(Debug)]
pub(crate) struct Arrived<'s> {
    method: Option<Method>,
    host: Option<Host>,
    path: RequestPath<'s>,
    query: Option<&'s str>,
}

impl<'s> Arrived<'s> {
    /// Reads the request line and the authority.
    ///
    /// # Errors
    /// What could be read in two ways, or is too long.
    pub(crate) fn read(header: &'s RequestHeader, limits: &Limits) -> Result<Self, Denial> {
        // HTTP/1 was held to these before it was parsed; of HTTP/2 only the sum was.
        if header.headers.len() > limits.headers {
            return Err(Denial::HeadersTooLarge);
        }
        let target = header.uri.path_and_query().ok_or(Denial::PathAmbiguous)?;
        if target.as_str().len() > limits.target_bytes {
            return Err(Denial::TargetTooLong);
        }
        // `raw_path` is what goes to the service; a target in absolute form is reduced before that.
        if header.uri.scheme().is_none() && header.raw_path() != target.as_str().as_bytes() {
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
            host: self.host.as_ref(),
            path: self.path,
        }
    }

    /// The host that is asked for.
    pub(crate) const fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The query, without its `?`.
    pub(crate) const fn query(&self) -> Option<&'s str> {
        self.query
    }
}

/// The one authority of a request: `:authority` in HTTP/2, that of the target in absolute form, or
/// the field `Host`. Pingora has refused requests in which two of them differ.
pub(crate) fn authority_text(header: &RequestHeader) -> Option<&[u8]> {
    match header.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => header
            .headers
            .get(http::header::HOST)
            .map(http::HeaderValue::as_bytes),
    }
}

fn authority(header: &RequestHeader) -> Result<Option<Host>, Denial> {
    if header.headers.get_all(http::header::HOST).iter().count() > 1 {
        return Err(Denial::AuthorityInvalid);
    }
    match authority_text(header) {
        Some(authority) => std::str::from_utf8(authority)
            .ok()
            .and_then(|authority| Host::from_authority(authority).ok())
            .map(Some)
            .ok_or(Denial::AuthorityInvalid),
        None if header.version == Version::HTTP_10 => Ok(None),
        None => Err(Denial::AuthorityInvalid),
    }
}
