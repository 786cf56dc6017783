//! A route that takes WebSockets where none can be.

use portcullis_policy::{Method, MethodSet};

use crate::diagnostic::{Diagnostic, codes};
use crate::document::Route;
use crate::node::NodePath;
use crate::source::Source;

/// What stands in the way of a WebSocket on `route`, which is for `methods`.
pub(crate) fn websocket_impossible(
    source: &Source,
    path: &NodePath,
    route: &Route,
    methods: MethodSet,
    upstream_speaks_http2: bool,
) -> Option<Diagnostic> {
    if !route.websocket {
        let limits = route.limits.as_ref();
        limits.and_then(|limits| limits.websocket_idle_timeout.as_ref())?;
        let message = format!("route `{}` limits WebSockets, and takes none", route.name);
        let path = path.join("limits").join("websocket_idle_timeout");
        let error = source.error(codes::WEBSOCKET_IMPOSSIBLE, &path, message);
        return Some(error.with_help("add `websocket: true` to the route, or leave the limit out"));
    }
    let (why, help) = if upstream_speaks_http2 {
        (
            format!("its upstream `{}` speaks HTTP/2", route.upstream),
            "name an upstream with `protocol: http1`; two upstreams may have the same addresses",
        )
    } else if !methods.contains(Method::Get) {
        (
            "it is not for `GET`, with which they are opened".to_owned(),
            "add `GET` to `match.methods`, or leave that key out for all methods",
        )
    } else {
        return None;
    };
    let message = format!("route `{}` can take no WebSocket: {why}", route.name);
    let error = source.error(
        codes::WEBSOCKET_IMPOSSIBLE,
        &path.join("websocket"),
        message,
    );
    Some(error.with_help(help))
}
