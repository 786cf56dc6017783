//! JSON Schemas for both kinds of file, made from the document types and their doc comments.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::document::{GatewayDocument, PolicyDocument};
use crate::node::{Node, NodePath, Segment};

/// The schema of `portcullis.yaml`, JSON Schema draft 7.
#[must_use]
pub fn gateway_schema() -> Value {
    identified::<GatewayDocument>("portcullis", "Portcullis gateway configuration")
}

/// The schema of a policy file, JSON Schema draft 7.
#[must_use]
pub fn policy_schema() -> Value {
    identified::<PolicyDocument>("policy", "Portcullis policy file")
}

fn identified<T: JsonSchema>(name: &str, title: &str) -> Value {
    let mut schema = root::<T>();
    if let Value::Object(object) = &mut schema {
        object.insert(
            "$id".to_owned(),
            format!("urn:portcullis:schema:{name}").into(),
        );
        object.insert("title".to_owned(), title.into());
    }
    schema
}

fn root<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with_transform(RecursiveTransform(forbid_null));
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// An optional key is left out, never written without a value.
fn forbid_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        // `allOf`, because draft 7 ignores what stands beside a `$ref`.
        if choices.len() == 1
            && let Some(choices) = object.remove("anyOf")
        {
            object.insert("allOf".to_owned(), choices);
        }
    }
}

/// The keys that a `T` needs at `path` and that `node` does not have there.
pub(crate) fn missing_keys<T: JsonSchema>(node: &Node, path: &NodePath) -> Vec<String> {
    let root = root::<T>();
    let mut place = Some((&root, node));
    for segment in path.segments() {
        place = place.and_then(|(schema, node)| {
            let node = match segment {
                Segment::Key(key) => node.get(key),
                Segment::Index(index) => node.elements().get(*index),
            };
            Some((below(&root, schema, segment)?, node?))
        });
    }
    let Some((schema, node)) = place else {
        return Vec::new();
    };
    let required = follow(&root, schema)
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    required
        .filter_map(Value::as_str)
        .filter(|key| node.get(key).is_none())
        .map(str::to_owned)
        .collect()
}

/// The schema that a `$ref` leads to, or the schema itself.
pub(crate) fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let referred = schema
        .get("$ref")
        .or_else(|| schema.pointer("/allOf/0/$ref"))
        .or_else(|| schema.pointer("/anyOf/0/$ref"));
    let target = referred
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// The schema of one step below `schema`.
fn below<'a>(root: &'a Value, schema: &'a Value, segment: &Segment) -> Option<&'a Value> {
    let schema = follow(root, schema);
    match segment {
        Segment::Index(_) => schema.get("items"),
        Segment::Key(key) => schema
            .get("properties")
            .and_then(|keys| keys.get(key))
            .or_else(|| schema.get("additionalProperties")),
    }
}
