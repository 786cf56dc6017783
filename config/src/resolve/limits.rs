use std::time::Duration;

use super::{DAY, HOUR, MILLISECOND, Resolver, SECOND, size_out_of_range};
use crate::config::{Limits, Overload, Shutdown};
use crate::diagnostic::codes;
use crate::document::{self, ByteSize};
use crate::node::{NodePath, node_path};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
pub(super) const TIB: u64 = 1024 * 1024 * MIB;

impl Resolver<'_> {
    pub(super) fn limits(&mut self, written: &document::Limits) -> Limits {
        let at = |key: &str| node_path!["limits", key];
        let mut timeout = |key, written, default: u32| {
            self.duration(&at(key), written, default * SECOND, MILLISECOND..=HOUR)
        };
        let handshake_timeout = timeout("handshake_timeout", written.handshake_timeout, 10);
        let header_timeout = timeout("header_timeout", written.header_timeout, 10);
        let idle_timeout = timeout("idle_timeout", written.idle_timeout, 60);
        let body_timeout = timeout("body_timeout", written.body_timeout, 30);
        let mut long =
            |key, written, default, most| self.duration(&at(key), written, default, SECOND..=most);
        let connection_age = long("connection_age", written.connection_age, HOUR, DAY);
        let websocket_idle_timeout = long(
            "websocket_idle_timeout",
            written.websocket_idle_timeout,
            600 * SECOND,
            DAY,
        );
        let websocket_age = long("websocket_age", written.websocket_age, DAY, 7 * DAY);
        Limits {
            connection_age,
            websocket_idle_timeout,
            websocket_age,
            connections: self.number(
                &at("connections"),
                written.connections,
                10_000,
                1..=1_000_000,
            ) as usize,
            connections_per_address: self.number(
                &at("connections_per_address"),
                written.connections_per_address,
                1_000,
                1..=1_000_000,
            ) as usize,
            handshake_timeout,
            header_timeout,
            idle_timeout,
            body_timeout,
            body_bytes: self.size(&at("body_bytes"), written.body_bytes, 64 * MIB, TIB) as u64,
            body_bytes_per_second: self.number(
                &at("body_bytes_per_second"),
                written.body_bytes_per_second,
                256,
                0..=1_000_000,
            ),
            target_bytes: self.size(&at("target_bytes"), written.target_bytes, 8 * KIB, 32 * KIB),
            headers: self.number(&at("headers"), written.headers, 100, 1..=250) as usize,
            header_bytes: self.size(
                &at("header_bytes"),
                written.header_bytes,
                32 * KIB,
                256 * KIB,
            ),
            token_bytes: self.size(&at("token_bytes"), written.token_bytes, 16 * KIB, 64 * KIB),
            failed_verifications_per_second: self.number(
                &at("failed_verifications_per_second"),
                written.failed_verifications_per_second,
                500,
                0..=1_000_000,
            ),
            http2_streams: self.number(
                &at("http2_streams"),
                written.http2_streams,
                100,
                1..=10_000,
            ),
            requests_per_connection: self.number(
                &at("requests_per_connection"),
                written.requests_per_connection,
                10_000,
                1..=u32::MAX,
            ),
        }
    }

    pub(super) fn overload(&mut self, written: &document::Overload) -> Overload {
        let at = |key: &str| node_path!["overload", key];
        let mut percent = |key, written, default| self.number(&at(key), written, default, 1..=100);
        let overload = Overload {
            memory: None,
            refuse_at_memory_percent: percent(
                "refuse_at_memory_percent",
                written.refuse_at_memory_percent,
                85,
            ),
            close_at_memory_percent: percent(
                "close_at_memory_percent",
                written.close_at_memory_percent,
                95,
            ),
            refuse_at_connections_percent: percent(
                "refuse_at_connections_percent",
                written.refuse_at_connections_percent,
                95,
            ),
        };
        let (refuse, close) = (
            overload.refuse_at_memory_percent,
            overload.close_at_memory_percent,
        );
        if refuse > close {
            let path = at("close_at_memory_percent");
            let message =
                format!("connections are closed at {close} %, before requests are refused");
            let help =
                format!("it has to be at least `refuse_at_memory_percent`, which is {refuse}");
            self.refuse(codes::OUT_OF_RANGE, &path, message, help);
        }
        let memory = written
            .memory
            .map(|_| self.size(&at("memory"), written.memory, TIB, TIB) as u64);
        Overload { memory, ..overload }
    }

    pub(super) fn shutdown(&mut self, written: &document::Shutdown) -> Shutdown {
        let at = |key: &str| node_path!["shutdown", key];
        Shutdown {
            grace: self.duration(
                &at("grace"),
                written.grace,
                Duration::ZERO,
                Duration::ZERO..=HOUR,
            ),
            drain: self.duration(
                &at("drain"),
                written.drain,
                30 * SECOND,
                Duration::ZERO..=HOUR,
            ),
        }
    }

    fn size(
        &mut self,
        path: &NodePath,
        written: Option<ByteSize>,
        default: u64,
        most: u64,
    ) -> usize {
        let size = written.unwrap_or(ByteSize(default));
        let error = size_out_of_range(self.source(), path, size, most);
        self.diagnostics.extend(error);
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }
}
