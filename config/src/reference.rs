//! `docs/configuration.md`, from the schemas: every key that exists, and none that does not.

use serde_json::Value;

use crate::document::units::{DURATION_PATTERN, SIZE_PATTERN};
use crate::schema::{follow, gateway_schema, policy_schema};

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Generated from the document types. To change it, change their doc comments, then run the
     command that the failing test prints. -->

Two kinds of file. `portcullis.yaml` belongs to the platform team; each policy file belongs to one
service team. Both are read again while the gateway runs.

- A key that is not listed here is an error, and so is a key that comes twice or has no value.
- Relative paths start at the file that names them. `${VAR}` is not expanded anywhere.
- Durations are whole numbers with `ms`, `s`, `m` or `h`; sizes with `B`, `KiB`, `MiB` or `GiB`.
- Secrets are never written here: `{ env: NAME }` or `{ file: path }` says where they are.
- Anchors, aliases, tags and several documents in one file are not supported.
- Names are 1 to 64 ASCII letters, digits, `.`, `_` and `-`, a letter or digit first.
";

/// The reference of every key of both kinds of file, in Markdown.
#[must_use]
pub fn configuration_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, schema) in [
        ("`portcullis.yaml`", gateway_schema()),
        ("Policy files", policy_schema()),
    ] {
        page.push_str(&format!("\n## {title}\n"));
        Section {
            root: &schema,
            path: String::new(),
        }
        .write(&schema, &mut page);
    }
    page
}

/// One mapping of a document.
struct Section<'a> {
    root: &'a Value,
    /// Empty at the top; `upstreams[].tls` further down.
    path: String,
}

impl Section<'_> {
    fn write(&self, schema: &Value, page: &mut String) {
        let text = describe(schema);
        if !text.is_empty() {
            page.push_str(&format!("\n{text}\n"));
        }
        page.push_str("\n| key | type | required | meaning |\n|---|---|---|---|\n");
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let Some(keys) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let mut sections = Vec::new();
        for (key, property) in keys {
            let target = follow(self.root, property);
            let meaning = [describe(property), describe(target)]
                .into_iter()
                .find(|text| !text.is_empty());
            let is_required = if required.iter().any(|name| name == key) {
                "yes"
            } else {
                ""
            };
            let meaning = meaning.unwrap_or_default().replace('|', "\\|");
            let kind = self.type_of(target);
            page.push_str(&format!(
                "| `{key}` | {kind} | {is_required} | {meaning} |\n"
            ));
            if let Some((suffix, mapping)) = self.mapping_in(target) {
                let dot = if self.path.is_empty() { "" } else { "." };
                sections.push((format!("{}{dot}{key}{suffix}", self.path), mapping));
            }
        }
        for (path, mapping) in sections {
            page.push_str(&format!("\n### `{path}`\n"));
            Section {
                root: self.root,
                path,
            }
            .write(mapping, page);
        }
    }

    /// The mapping with keys of its own that a value is, or that the elements of a list are.
    fn mapping_in<'s>(&'s self, schema: &'s Value) -> Option<(&'static str, &'s Value)> {
        let (suffix, mapping) = match schema.get("items") {
            Some(items) => ("[]", follow(self.root, items)),
            None => ("", schema),
        };
        mapping.get("properties").map(|_| (suffix, mapping))
    }

    fn type_of(&self, schema: &Value) -> String {
        let schema = follow(self.root, schema);
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            let words = choices
                .iter()
                .filter_map(|choice| choice.get("const").and_then(Value::as_str));
            let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
            return match words.is_empty() {
                false => words.join(" or "),
                true => choices
                    .iter()
                    .map(|choice| self.type_of(choice))
                    .collect::<Vec<_>>()
                    .join(" or "),
            };
        }
        match schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "string" => match schema.get("pattern").and_then(Value::as_str) {
                Some(DURATION_PATTERN) => "duration".to_owned(),
                Some(SIZE_PATTERN) => "size".to_owned(),
                _ => "string".to_owned(),
            },
            "integer" => "number".to_owned(),
            "array" => {
                let element = schema
                    .get("items")
                    .map(|items| self.type_of(items))
                    .unwrap_or_default();
                format!("list of {element}s")
            }
            "object" => self.type_of_mapping(schema),
            other => other.to_owned(),
        }
    }

    fn type_of_mapping(&self, schema: &Value) -> String {
        match schema
            .get("additionalProperties")
            .filter(|values| values.is_object())
        {
            Some(values) => format!("mapping to {}s", self.type_of(values)),
            None if schema
                .get("properties")
                .is_some_and(|keys| keys.get("any").is_some()) =>
            {
                "`{ any: [...] }`".to_owned()
            }
            None => "mapping".to_owned(),
        }
    }
}

/// The description in one line.
fn describe(schema: &Value) -> String {
    let text = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
