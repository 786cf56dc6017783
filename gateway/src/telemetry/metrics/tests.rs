use std::collections::BTreeMap;

use super::labels::{Handshake, KeySetRefresh, TokenVerification, UnknownKeyId, UpstreamFailure};
use super::*;
use crate::telemetry::{NONE, Outcome};

fn metrics() -> Metrics {
    Metrics::new().expect("no two metrics have one name")
}

/// Touches every family, so that each is rendered.
fn in_use() -> Metrics {
    let metrics = metrics();
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    metrics
        .route("orders-read")
        .record(Outcome::Admitted, NONE, Duration::from_millis(3));
    metrics
        .upstream("orders")
        .finished(Duration::from_millis(2));
    metrics.issuer("acme").key_set_refreshed(3, now);
    metrics
        .listener("public")
        .handshake_ended(Handshake::Completed);
    metrics.configuration_loaded(1, u64::MAX, HeldBack::Nothing, now);
    metrics.policy_files_replaced([PolicyFile {
        file: "policy/orders.yaml",
        owner: "orders-team",
        is_current: true,
    }]);
    metrics.certificates_replaced([Certificate {
        usage: CertificateUsage::Listener,
        name: "public/api.acme.example",
        not_after: 1_900_000_000,
    }]);
    metrics
}

fn value_of(metrics: &Metrics, series: &str) -> Option<String> {
    let text = metrics.render().expect("renders");
    text.lines().find_map(|line| {
        line.strip_prefix(series)?
            .strip_prefix(' ')
            .map(str::to_owned)
    })
}

#[test]
fn an_admitted_request_and_a_denied_one_are_counted_apart() {
    let metrics = metrics();
    let route = metrics.route("orders-read");
    let admitted =
        r#"portcullis_requests_total{code="none",outcome="admitted",route="orders-read"}"#;
    assert_eq!(
        value_of(&metrics, admitted).as_deref(),
        Some("0"),
        "a known series starts at 0"
    );
    route.record(Outcome::Admitted, NONE, Duration::from_millis(1));
    route.record(Outcome::Denied, "token_expired", Duration::from_millis(1));
    route.record(Outcome::Denied, "token_expired", Duration::from_millis(1));
    assert_eq!(value_of(&metrics, admitted).as_deref(), Some("1"));
    let denied =
        r#"portcullis_requests_total{code="token_expired",outcome="denied",route="orders-read"}"#;
    assert_eq!(value_of(&metrics, denied).as_deref(), Some("2"));
    let all = r#"portcullis_request_duration_seconds_count{route="orders-read"}"#;
    assert_eq!(value_of(&metrics, all).as_deref(), Some("3"));
}

#[test]
fn series_of_a_removed_name_go_away_and_all_others_stay() {
    let metrics = metrics();
    let keeps = |names: &[&str], series: &str| {
        let text = metrics.render().expect("renders");
        names
            .iter()
            .filter(|name| text.contains(&format!("{series}=\"{name}\"")))
            .count()
    };
    for name in ["old", "new"] {
        metrics
            .route(name)
            .record(Outcome::Denied, "token_expired", Duration::ZERO);
        metrics.upstream(name).retried();
        metrics
            .issuer(name)
            .token_judged(TokenVerification::Verified);
        drop(metrics.listener(name).connection_accepted());
    }
    metrics
        .route(NONE)
        .record(Outcome::Denied, "route_not_found", Duration::ZERO);
    let names = BTreeSet::from(["new"]);
    metrics.retain(&ConfiguredNames {
        routes: names.clone(),
        upstreams: names.clone(),
        issuers: names.clone(),
        listeners: names,
    });
    for label in ["route", "upstream", "issuer", "listener"] {
        assert_eq!(
            (keeps(&["old"], label), keeps(&["new"], label)),
            (0, 1),
            "{label}"
        );
    }
    assert_eq!(
        keeps(&[NONE], "route"),
        1,
        "requests without a route are always known"
    );
}

#[test]
fn a_policy_file_that_is_gone_has_no_gauge() {
    let metrics = metrics();
    let file = |file, is_current| PolicyFile {
        file,
        owner: "team",
        is_current,
    };
    metrics.policy_files_replaced([file("a.yaml", true), file("b.yaml", true)]);
    metrics.policy_files_replaced([file("b.yaml", false)]);
    assert_eq!(
        value_of(
            &metrics,
            r#"portcullis_policy_file_current{file="a.yaml",owner="team"}"#
        ),
        None
    );
    let held = value_of(
        &metrics,
        r#"portcullis_policy_file_current{file="b.yaml",owner="team"}"#,
    );
    assert_eq!(held.as_deref(), Some("0"));
}

#[test]
fn of_two_certificates_with_one_name_the_earlier_end_counts() {
    let metrics = metrics();
    let certificate = |not_after| Certificate {
        usage: CertificateUsage::Listener,
        name: "public/localhost",
        not_after,
    };
    metrics.certificates_replaced([certificate(300), certificate(100), certificate(200)]);
    let series = r#"portcullis_certificate_not_after_timestamp_seconds{name="public/localhost",usage="listener"}"#;
    assert_eq!(value_of(&metrics, series).as_deref(), Some("100"));
}

#[test]
fn a_rejected_configuration_leaves_the_generation_in_force() {
    let metrics = in_use();
    metrics.configuration_rejected(UNIX_EPOCH + Duration::from_secs(1_800_000_060));
    for (series, expected) in [
        ("portcullis_config_generation", "1"),
        ("portcullis_config_hash", "281474976710655"),
        ("portcullis_config_last_reload_successful", "0"),
        (
            "portcullis_config_last_reload_timestamp_seconds",
            "1800000060",
        ),
        (r#"portcullis_config_reloads_total{result="applied"}"#, "1"),
        (r#"portcullis_config_reloads_total{result="rejected"}"#, "1"),
    ] {
        assert_eq!(
            value_of(&metrics, series).as_deref(),
            Some(expected),
            "{series}"
        );
    }
}

#[test]
fn guards_count_down_when_they_are_dropped() {
    let metrics = metrics();
    let request = metrics.request_arrived();
    let connection = metrics.listener("public").connection_accepted();
    assert_eq!(metrics.requests_in_flight(), 1);
    drop((request, connection));
    assert_eq!(metrics.requests_in_flight(), 0);
    assert_eq!(
        value_of(&metrics, r#"portcullis_connections{listener="public"}"#).as_deref(),
        Some("0")
    );
    assert_eq!(
        value_of(
            &metrics,
            r#"portcullis_connections_total{listener="public"}"#
        )
        .as_deref(),
        Some("1")
    );
}

#[test]
fn no_label_value_ends_or_begins_with_another_one_of_its_set() {
    let sets: [Vec<&str>; 8] = [
        TokenVerification::ALL
            .iter()
            .map(|value| value.as_str())
            .collect(),
        KeySetRefresh::ALL
            .iter()
            .map(|value| value.as_str())
            .collect(),
        UnknownKeyId::ALL
            .iter()
            .map(|value| value.as_str())
            .collect(),
        UpstreamFailure::ALL
            .iter()
            .map(|value| value.as_str())
            .collect(),
        Handshake::ALL.iter().map(|value| value.as_str()).collect(),
        Reload::ALL.iter().map(|value| value.as_str()).collect(),
        CertificateUsage::ALL
            .iter()
            .map(|value| value.as_str())
            .collect(),
        Outcome::ALL.iter().map(|value| value.as_str()).collect(),
    ];
    for set in sets {
        for (left, right) in set
            .iter()
            .flat_map(|left| set.iter().map(move |right| (left, right)))
        {
            let collides = left.ends_with(right) || left.starts_with(right);
            assert!(left == right || !collides, "`{left}` and `{right}`");
        }
    }
}

const MANUAL: &str = include_str!("../../../../docs/telemetry.md");

/// The rows of the manual's tables of metrics: name → the cells after it.
fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
    MANUAL
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .strip_suffix(" |")?
                .split_once("` | ")
        })
        .filter(|(name, _)| name.starts_with("portcullis_") || name.starts_with("process_"))
        .map(|(name, cells)| {
            (
                name.split('{').next().unwrap_or(name),
                cells.split(" | ").collect(),
            )
        })
        .collect()
}

#[test]
fn every_metric_has_a_row_in_the_manual_and_every_row_a_metric() {
    let text = in_use().render().expect("renders");
    let registered: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let documented: BTreeSet<&str> = documented().into_keys().collect();
    assert_eq!(registered, documented);
}

#[test]
fn every_row_of_the_manual_says_meaning_population_and_what_to_do() {
    for (name, cells) in documented() {
        assert_eq!(cells.len(), 3, "{name}: {cells:?}");
        assert!(
            cells.iter().all(|cell| cell.trim().len() >= 8),
            "{name}: {cells:?}"
        );
    }
}

#[test]
fn the_labels_in_the_manual_are_the_labels_of_the_series() {
    let text = in_use().render().expect("renders");
    for line in MANUAL
        .lines()
        .filter(|line| line.starts_with("| `portcullis_"))
    {
        let series = line
            .trim_start_matches("| `")
            .split('`')
            .next()
            .unwrap_or_default();
        let (name, labels) = series
            .trim_end_matches('}')
            .split_once('{')
            .unwrap_or((series, ""));
        let expected: BTreeSet<&str> = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        let family = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| {
                ["{", " ", "_count{", "_count "]
                    .iter()
                    .any(|start| rest.starts_with(start))
            })
        };
        let rendered = text
            .lines()
            .find(family)
            .unwrap_or_else(|| panic!("{name} is not rendered"));
        let rendered = rendered
            .split_once('{')
            .map_or("", |(_, rest)| rest.split('}').next().unwrap_or(""));
        let rendered: BTreeSet<&str> = rendered
            .split("\",")
            .filter_map(|pair| Some(pair.split_once('=')?.0))
            .collect();
        assert_eq!(rendered, expected, "{name}");
    }
}

#[test]
fn alerts_and_dashboards_name_only_metrics_that_exist() {
    for (file, text) in [
        (
            "alerts.yaml",
            include_str!("../../../../deploy/prometheus/alerts.yaml"),
        ),
        (
            "gateway.json",
            include_str!("../../../../deploy/grafana/gateway.json"),
        ),
    ] {
        let names = text
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .filter(|word| word.starts_with("portcullis_"));
        let mut found = 0;
        for name in names {
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            let known = documented();
            assert!(
                known.contains_key(name) || family.is_some_and(|family| known.contains_key(family)),
                "{file}: {name}"
            );
            found += 1;
        }
        assert!(found > 0, "{file}");
    }
}
