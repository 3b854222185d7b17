//! Foreign JSON as a map of values, for providers whose bodies are one object. It must not know any provider. The
//! surprising thing: numbers stay the digits that were sent, so an id beyond 2^53 is still that id.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use headgate_schemas::Value;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::{Malformed, nests_within_limit};

/// An object by its keys.
pub(super) type Map = BTreeMap<Box<str>, Value>;

/// Longest id, name or label taken over.
pub(super) const NAME_BYTES: usize = 512;

/// A list of which at most `N` elements are kept, and its whole length. The rest is read past: a body of a few MiB may
/// hold a million elements, each a hundred times as large in memory as in the body.
pub(super) struct AtMost<T, const N: usize> {
    /// The first elements.
    pub(super) list: Vec<T>,
    /// How many there are.
    pub(super) len: usize,
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Reading<T, N> {
            type Value = AtMost<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() < N {
                    match elements.next_element()? {
                        Some(element) => list.push(element),
                        None => return Ok(AtMost { len: list.len(), list }),
                    }
                }
                let mut len = list.len();
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    len += 1;
                }
                Ok(AtMost { list, len })
            }
        }

        deserializer.deserialize_seq(Reading(PhantomData))
    }
}

/// Reads a body that is one object.
pub(super) fn object(body: &[u8]) -> Result<Map, Malformed> {
    if !nests_within_limit(body) {
        return Err(Malformed("the body nests too deeply"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Map(map)) => Ok(map),
        Ok(_) | Err(_) => Err(Malformed("the body is not a JSON object")),
    }
}

/// Looks things up in a map.
pub(super) trait Lookup {
    /// The object under `key`.
    fn map(&self, key: &str) -> Option<&Map>;
    /// The list under `key`, empty if there is none.
    fn list(&self, key: &str) -> &[Value];
    /// The text under `key`, if it is text that is not empty.
    fn text(&self, key: &str) -> Option<&str>;
    /// Whether something stands under `key`.
    fn has(&self, key: &str) -> bool;
    /// The text, or the digits of the number, under `key`.
    fn name(&self, key: &str) -> Result<Option<&str>, Malformed>;
}

impl Lookup for Map {
    fn map(&self, key: &str) -> Option<&Map> {
        self.get(key).and_then(as_map)
    }

    fn list(&self, key: &str) -> &[Value] {
        match self.get(key) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_text).filter(|text| !text.is_empty())
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.is_null())
    }

    fn name(&self, key: &str) -> Result<Option<&str>, Malformed> {
        let name = match self.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Text(text)) => text,
            Some(Value::Number(number)) if number.bytes().all(|b| b.is_ascii_digit()) => number,
            Some(_) => return Err(Malformed("an id or a name is neither text nor a whole number")),
        };
        if name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            return Err(Malformed("an id or a name is too long or holds control characters"));
        }
        Ok(Some(&**name).filter(|name| !name.is_empty()))
    }
}

/// The object that a value is.
pub(super) const fn as_map(value: &Value) -> Option<&Map> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted_to_its_end_and_kept_to_its_limit() {
        let read = |text: &str| serde_json::from_str::<AtMost<u8, 2>>(text).map(|read| (read.list, read.len)).ok();
        assert_eq!(read("[]"), Some((vec![], 0)));
        assert_eq!(read("[1,2]"), Some((vec![1, 2], 2)));
        assert_eq!(read("[1,2,\"x\",{}]"), Some((vec![1, 2], 4)));
        for broken in ["[1,2,3", "[1,2,3]]", "[1,x]", "{}", "[\"x\"]"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
