use super::{Diagnostic, Diagnostics, Place, codes};

fn diagnostics() -> Diagnostics {
    let error = Diagnostic::error(
        codes::UNKNOWN_NAME,
        "gateway.yaml".as_ref(),
        Place {
            line: 41,
            column: 13,
            end_line: 41,
            end_column: 18,
        },
        "route `orders-read` names upstream `order`, which is not defined",
    )
    .with_help("did you mean `orders`, defined at gateway.yaml:9:5?")
    .with_source_line(Some("  upstream: order"));
    let warning = Diagnostic::error(
        codes::UNUSED_SCOPE,
        "a.yaml".as_ref(),
        Place::at(2, 3),
        "scope `x`",
    )
    .into_warning();
    Diagnostics::from(vec![error, warning])
}

#[test]
fn human_form_shows_place_line_caret_help_and_counts() {
    let expected = "\
a.yaml:2:3: warning[unused_scope]: scope `x`

gateway.yaml:41:13: error[unknown_name]: route `orders-read` names upstream `order`, which is not defined
  41 |   upstream: order
     |             ^^^^^
  help: did you mean `orders`, defined at gateway.yaml:9:5?

1 error, 1 warning
";
    assert_eq!(diagnostics().to_string(), expected);
}

#[test]
fn json_form_has_version_verdict_summary_and_items() {
    let json = diagnostics().to_json();
    assert_eq!(json["format_version"], 1);
    assert_eq!(json["ok"], false);
    assert_eq!(
        json["summary"],
        serde_json::json!({ "errors": 1, "warnings": 1 })
    );
    assert_eq!(json["items"][1]["code"], "unknown_name");
    assert_eq!(json["items"][1]["line"], 41);
    assert_eq!(json["items"][1]["end_column"], 18);
    assert_eq!(json["items"][0]["severity"], "warning");
    assert_eq!(json["items"][0]["help"], serde_json::Value::Null);
}

#[test]
fn control_and_reordering_characters_are_escaped_and_the_caret_stays_in_place() {
    let diagnostic = Diagnostic::error(
        codes::SYNTAX,
        "a\u{1b}.yaml".as_ref(),
        Place::at(1, 3),
        "bad `\u{1b}[2J\u{202e}`",
    )
    .with_source_line(Some("\u{1b}ab"));
    let text = Diagnostics::from(vec![diagnostic]).to_string();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(text.contains("  1 | \\u{1b}ab\n    |        ^\n"), "{text}");
}

#[test]
fn every_code_is_a_unique_snake_case_word() {
    let mut seen = std::collections::BTreeSet::new();
    for (code, meaning) in codes::ALL {
        assert!(
            code.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{code}"
        );
        assert!(seen.insert(code), "{code} is there twice");
        assert!(!meaning.trim().is_empty(), "{code} has no meaning");
    }
}
