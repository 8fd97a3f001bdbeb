//! A pod as it came.
//!
//! Owns: what is read of every pod, and reading the rest of one that is to be changed, within what that may take. Upholds I12.
//! Does not own: what is made of it.
//!
//! Until a pod is known to get a sidecar it is text: any pod of the cluster can send one, and whoever may create pods makes
//! the API server send one.

use std::sync::Arc;

use axum::body::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tree::tree_bytes;
use crate::limits::{LARGE_TREE_WAIT, POD_TREE_BYTES_MAX, SMALL_TREE_BYTES_MAX};
use crate::names::{INJECT, ON_ERROR};

/// What is read of every pod: whether it asks, and what it is called in the log.
const HEAD: Read = Read::Fields(&[("metadata", METADATA)]);
const METADATA: Read =
    Read::Fields(&[("name", Read::Text), ("generateName", Read::Text), ("annotations", ANNOTATIONS)]);
const ANNOTATIONS: Read = Read::Fields(&[(INJECT, Read::Text), (ON_ERROR, Read::Text)]);

/// A pod that is not read yet, but for its head. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PodJson {
    head: Value,
    text: Bytes,
    large_trees: Arc<Semaphore>,
}

/// A pod that was read.
#[derive(Debug)]
pub struct WholePod {
    pod: Value,
    /// A large one has its turn for as long as it is held.
    _turn: Option<OwnedSemaphorePermit>,
}

/// Why a pod was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It would take too much memory.
    #[error(
        "the pod has too many fields: they would take {} KiB of the operator's memory, and {} may be; take some of its containers, variables or annotations away",
        .bytes.div_ceil(1 << 10), POD_TREE_BYTES_MAX >> 10
    )]
    TooLarge {
        /// What it would take. Unit: bytes.
        bytes: usize,
    },
    /// Others that are as large were there before it.
    #[error("too many large pods are created at once; create it again")]
    Busy,
    /// It nests too deep, or a number is out of range.
    #[error("failed to read the pod: {0}")]
    Json(#[from] serde_json::Error),
}

impl PodJson {
    /// Reads the head of a pod. `large_trees`: whose turn it is.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn read(text: Bytes, large_trees: Arc<Semaphore>) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let head = (&HEAD).deserialize(&mut reader)?;
        reader.end()?;
        Ok(Self { head, text, large_trees })
    }

    /// Its name, and the annotations by which it asks: a pod that has nothing else. What should be a text and is not is `true`.
    pub fn head(&self) -> &Value {
        &self.head
    }

    /// All of it; a large one when it is its turn.
    ///
    /// # Errors
    /// It is too large, or others are.
    pub async fn whole(&self) -> Result<WholePod, Unread> {
        let bytes = tree_bytes(&self.text);
        if bytes > POD_TREE_BYTES_MAX {
            return Err(Unread::TooLarge { bytes });
        }
        let turn = match bytes > SMALL_TREE_BYTES_MAX {
            true => Some(self.turn().await?),
            false => None,
        };
        Ok(WholePod { pod: serde_json::from_slice(&self.text)?, _turn: turn })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Unread> {
        match tokio::time::timeout(LARGE_TREE_WAIT, Arc::clone(&self.large_trees).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            // Nobody closes the semaphore.
            Ok(Err(_)) | Err(_) => Err(Unread::Busy),
        }
    }
}

impl WholePod {
    /// Its raw JSON.
    pub fn json(&self) -> &Value {
        &self.pod
    }
}

/// What is kept of a value; the rest is passed over and takes no memory.
#[derive(Clone, Copy, Debug)]
enum Read {
    /// It, if it is a text.
    Text,
    /// These fields of it, if it is an object.
    Fields(&'static [(&'static str, Read)]),
}

impl<'de> DeserializeSeed<'de> for &Read {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Read {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Bool(true))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Bool(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Bool(true))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        match self {
            Read::Text => Ok(Value::String(text.to_owned())),
            Read::Fields(_) => Ok(Value::Bool(true)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Bool(true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let (kept, mut head) = match self {
            Read::Fields(kept) => (*kept, Value::Object(Map::new())),
            Read::Text => (&[][..], Value::Bool(true)),
        };
        while let Some(name) = fields.next_key::<String>()? {
            match kept.iter().find(|(known, _)| *known == name) {
                Some((_, read)) => head[name] = fields.next_value_seed(read)?,
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
impl PodJson {
    /// A pod of a test.
    pub(crate) fn for_test(pod: &Value) -> Self {
        Self::read(pod.to_string().into(), Arc::new(Semaphore::new(1))).expect("a value is JSON")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_its_name_and_what_it_asks_for_are_read() {
        for (pod, expected) in [
            (
                json!({
                    "kind": "Pod",
                    "metadata": {"name": "a", "labels": {"x": "y"}, "annotations": {INJECT: "events", "x": "y"}},
                    "spec": {"containers": [{"name": "app"}]},
                }),
                json!({"metadata": {"name": "a", "annotations": {INJECT: "events"}}}),
            ),
            (json!({"metadata": {"annotations": null}}), json!({"metadata": {"annotations": null}})),
            (json!({"metadata": {"annotations": {INJECT: [1]}}}), json!({"metadata": {"annotations": {INJECT: true}}})),
            (json!({"metadata": {"annotations": {INJECT: {}}}}), json!({"metadata": {"annotations": {INJECT: true}}})),
            (
                json!({"metadata": {"annotations": {INJECT: null}}}),
                json!({"metadata": {"annotations": {INJECT: null}}}),
            ),
            (json!({"metadata": "x", "spec": 1}), json!({"metadata": true})),
            (json!({}), json!({})),
            (json!([1.5]), json!(true)),
        ] {
            assert_eq!(*PodJson::for_test(&pod).head(), expected, "{pod}");
        }
    }

    #[tokio::test]
    async fn i12_large_pods_are_read_one_at_a_time_and_small_ones_meanwhile() {
        let large = json!({"items": vec![json!({"a": 1}); 1_000]});
        let pod = PodJson::for_test(&large);
        let held = pod.whole().await.expect("it is the first");
        assert_eq!(*held.json(), large);
        assert!(pod.whole().now_or_never().is_none(), "it waits");
        let small = PodJson { text: "{}".into(), ..pod.clone() };
        assert!(small.whole().await.is_ok());
        drop(held);
        assert!(pod.whole().await.is_ok());
    }
}
