//! What is wrong with a service, or with the way there, by Pingora's errors.

use std::io;

use pingora_core::{Error, ErrorType};

use crate::refusal::Fault;
use crate::telemetry::metrics::labels::UpstreamFailure;

/// Why an attempt failed, for the metrics.
pub(crate) fn failure_of(error: &Error) -> UpstreamFailure {
    match error.etype() {
        ErrorType::ConnectTimedout => UpstreamFailure::ConnectTimeout,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::BindError
        | ErrorType::SocketError => UpstreamFailure::ConnectRefused,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => UpstreamFailure::Tls,
        _ if is_alert(error) => UpstreamFailure::Tls,
        _ if is_shortage(error) => UpstreamFailure::ConnectRefused,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => UpstreamFailure::ResponseTimeout,
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::H2Downgrade
        | ErrorType::InvalidH2 => UpstreamFailure::Protocol,
        _ => UpstreamFailure::Reset,
    }
}

/// Whether it is a TLS alert. In TLS 1.3 a service refuses a certificate when the handshake has ended for this
/// side (RFC 8446 §4.4.3), and the alert comes where an answer is expected.
fn is_alert(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|inner| matches!(inner, rustls::Error::AlertReceived(_)))
}

/// Whether there is no descriptor left for a connection to the service, which is not to blame.
fn is_shortage(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error)
        .is_some_and(|code| matches!(code, libc::EMFILE | libc::ENFILE))
}

/// What a caller is told about an error of a service.
pub(crate) fn fault_of(error: &Error) -> Fault {
    match error.etype() {
        _ if is_shortage(error) => Fault::Overloaded,
        ErrorType::ConnectTimedout
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout => Fault::UpstreamTimeout,
        _ => match failure_of(error) {
            UpstreamFailure::ConnectRefused | UpstreamFailure::ConnectTimeout => {
                Fault::UpstreamUnreachable
            }
            UpstreamFailure::Tls => Fault::UpstreamUntrusted,
            UpstreamFailure::Reset
            | UpstreamFailure::ResponseTimeout
            | UpstreamFailure::Protocol => Fault::UpstreamBroken,
        },
    }
}
