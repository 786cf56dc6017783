use crate::{Host, Method, RequestPath};

/// What policy may know of a request: where it is addressed, and nothing that its sender can say
/// about who it is.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method; `None` is one that no route can be for.
    pub method: Option<Method>,
    /// The host of its authority, if it has one.
    pub host: Option<&'a Host>,
    /// The path, accepted.
    pub path: RequestPath<'a>,
}
