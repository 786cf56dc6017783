use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The members of a JSON object whose names are all different (RFC 7515 §4, RFC 7519 §4): an object
/// that says a thing twice says different things to different readers.
pub(crate) struct Members(Vec<(Box<str>, Value)>);

/// Far above what a token has; it bounds the comparison of names.
const MAX_MEMBERS: usize = 256;

impl Members {
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(member, _)| &**member == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Box<str>, Value)> = Vec::with_capacity(12);
                while let Some(name) = map.next_key::<Box<str>>()? {
                    if members.len() == MAX_MEMBERS
                        || members.iter().any(|(earlier, _)| *earlier == name)
                    {
                        return Err(serde::de::Error::custom("repeated or too many members"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
