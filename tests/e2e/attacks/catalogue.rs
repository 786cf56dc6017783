//! Files of cases → cases: parsed, and `for_each` written out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One attack, with everything filled in that does not depend on the moment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) name: String,
    /// Values of `for_each`, for messages.
    #[serde(default)]
    pub(super) variant: String,
    #[serde(default)]
    only: Vec<Protocol>,
    pub(super) request: Option<Request>,
    pub(super) head: Option<Vec<String>>,
    pub(super) raw: Option<String>,
    pub(super) body: Option<String>,
    pub(super) token: Option<TokenSpec>,
    pub(super) frames: Option<Vec<Frame>>,
    pub(super) expect: Expect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Http1,
    Http2,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default = "orders_7")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn orders_7() -> String {
    "/orders/7".to_owned()
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TokenSpec {
    pub(super) key: Option<String>,
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    pub(super) without_header: Vec<String>,
    pub(super) without_claims: Vec<String>,
    pub(super) raw_header: Option<String>,
    pub(super) raw_payload: Option<String>,
    pub(super) signature: Option<Signature>,
    pub(super) compact: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Signature {
    Word(String),
    Hmac { hmac: String, alg: Option<String> },
    Numbers { r: Value, s: Value },
    Hex { hex: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Frame {
    Headers(Headers),
    Data(Data),
    Settings(Vec<(u16, u32)>),
    WindowUpdate {
        stream: Stream,
        increment: u32,
    },
    Reset {
        stream: Stream,
        code: u32,
    },
    Ping {},
    #[serde(rename = "frame")]
    Raw(RawFrame),
    Repeat {
        times: usize,
        frames: Vec<Self>,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Headers {
    pub(super) stream: Stream,
    #[serde(default)]
    pub(super) end_stream: bool,
    #[serde(default = "yes")]
    pub(super) end_headers: bool,
    pub(super) fields: Vec<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Data {
    pub(super) stream: Stream,
    #[serde(default)]
    pub(super) text: String,
    #[serde(default)]
    pub(super) end_stream: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFrame {
    #[serde(rename = "type")]
    pub(super) kind: u8,
    #[serde(default)]
    pub(super) flags: u8,
    pub(super) stream: Stream,
    #[serde(default)]
    pub(super) text: String,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Stream {
    Number(u32),
    Next(Next),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Next {
    Next,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) status: Outcomes,
    pub(super) code: Option<String>,
    pub(super) challenge: Option<String>,
    #[serde(default)]
    pub(super) closed: bool,
    pub(super) forwarded: Option<Forwarded>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Outcomes {
    One(Outcome),
    Any(Vec<Outcome>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Status(u16),
    Word(Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Reset,
    Closed,
}

impl Outcomes {
    pub(super) fn allows(&self, outcome: &Outcome) -> bool {
        match self {
            Self::One(one) => one == outcome,
            Self::Any(any) => any.contains(outcome),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forwarded {
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    pub(super) body: Option<String>,
}

impl Case {
    pub(super) fn title(&self) -> String {
        format!("{} {}{}", self.id, self.name, self.variant)
    }

    pub(super) fn runs_on_http1(&self) -> bool {
        self.frames.is_none() && (self.only.is_empty() || self.only.contains(&Protocol::Http1))
    }

    pub(super) fn runs_on_http2(&self) -> bool {
        let is_bytes = self.head.is_some() || self.raw.is_some();
        !is_bytes && (self.only.is_empty() || self.only.contains(&Protocol::Http2))
    }

    /// The request of a `request` or `token` case.
    pub(super) fn request(&self) -> Option<Request> {
        if self.token.is_some() {
            return Some(Request {
                method: get(),
                path: orders_7(),
                headers: Vec::new(),
                body: None,
            });
        }
        self.request.clone()
    }
}

pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks")
}

pub(super) fn read_yaml(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cases of one file, each combination of its `for_each` a case of its own.
pub(super) fn load(file: &str) -> Vec<Case> {
    let document = read_yaml(&directory().join(file));
    let cases = document["cases"].as_array().expect("`cases` is a list");
    let mut names = BTreeSet::new();
    let mut expanded = Vec::new();
    for case in cases {
        let label = (case["id"].to_string(), case["name"].to_string());
        assert!(names.insert(label.clone()), "{file}: {label:?} comes twice");
        expanded.extend(written_out(case.clone()).into_iter().map(|case| {
            let text = case.to_string();
            serde_json::from_value(case).unwrap_or_else(|error| {
                panic!("{file}: {label:?} is no case: {error}: {text:.300}")
            })
        }));
    }
    expanded
}

fn written_out(mut case: Value) -> Vec<Value> {
    let object = case.as_object_mut().expect("a case is a mapping");
    let Some(lists) = object.remove("for_each") else {
        return vec![case];
    };
    let mut cases = vec![(case, String::new())];
    for (name, values) in lists.as_object().expect("`for_each` is a mapping") {
        let values = values.as_array().expect("`for_each` has lists");
        cases = cases
            .into_iter()
            .flat_map(|(case, variant)| {
                values.iter().map(move |value| {
                    let shown = format!("{:.60}", value.to_string());
                    let variant = format!("{variant} [{name}={shown}]");
                    (put(&case, name, value), variant)
                })
            })
            .collect();
    }
    cases
        .into_iter()
        .map(|(mut case, variant)| {
            case["variant"] = Value::String(variant);
            case
        })
        .collect()
}

/// `value` in place of every `{{name}}`.
fn put(case: &Value, name: &str, value: &Value) -> Value {
    let placeholder = format!("{{{{{name}}}}}");
    match case {
        Value::String(text) if *text == placeholder => value.clone(),
        Value::String(text) => {
            let shown = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Value::String(text.replace(&placeholder, &shown))
        }
        Value::Array(items) => items.iter().map(|item| put(item, name, value)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| {
                let key = match put(&Value::String(key.clone()), name, value) {
                    Value::String(key) => key,
                    _ => key.clone(),
                };
                (key, put(member, name, value))
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
