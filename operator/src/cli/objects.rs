//! Kubernetes objects in a document, and the pods that they describe.
//!
//! Owns: lists, which kinds have a pod's template and where, who an object is in a message.
//! Does not own: what is done to the pods.

use serde_json::Value;

/// An object of a document.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    /// Where it is in its document (RFC 6901).
    pub(super) pointer: String,
    /// The object.
    pub(super) value: &'a Value,
    /// Its kind.
    pub(super) kind: &'a str,
    /// Its namespace, if it names one.
    pub(super) namespace: Option<&'a str>,
}

impl<'a> Object<'a> {
    /// The objects of a document: itself, or the items of a list, also of a list in a list.
    pub(super) fn all(document: &'a Value) -> Vec<Self> {
        let mut found = Vec::new();
        collect(document, String::new(), &mut found);
        found
    }

    fn api_group(&self) -> &'a str {
        let version = self.value["apiVersion"].as_str().unwrap_or_default();
        version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether it is of this group and kind.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.api_group() == group && self.kind == kind
    }

    /// Where in the object its pod is: the object itself, or the template of pods. None for other kinds.
    pub(super) fn pod_pointer(&self) -> Option<&'static str> {
        match (self.api_group(), self.kind) {
            ("", "Pod") => Some(""),
            ("", "ReplicationController")
            | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
            | ("batch", "Job") => Some("/spec/template"),
            ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
            ("", "PodTemplate") => Some("/template"),
            _ => None,
        }
    }

    /// Its name, or what its name is made from.
    pub(super) fn name(&self) -> String {
        let metadata = &self.value["metadata"];
        match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(prefix)) => format!("{prefix}…"),
            (None, None) => "(without a name)".to_owned(),
        }
    }

    /// Kind, namespace and name.
    pub(super) fn title(&self, namespace: &str) -> String {
        format!("{} {namespace}/{}", self.kind, self.name())
    }
}

fn collect<'a>(value: &'a Value, pointer: String, found: &mut Vec<Object<'a>>) {
    let Some(kind) = value["kind"].as_str() else { return };
    if let Some(items) = value["items"].as_array().filter(|_| kind.ends_with("List")) {
        for (index, item) in items.iter().enumerate() {
            collect(item, format!("{pointer}/items/{index}"), found);
        }
        return;
    }
    let namespace = value["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty());
    found.push(Object { pointer, value, kind, namespace });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_of_lists_are_found_where_they_are() {
        let list = json!({"kind": "List", "items": [
            {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "team-a"}},
            {"kind": "PodList", "items": [{"kind": "Pod", "apiVersion": "v1", "metadata": {"generateName": "b-"}}]},
            {"not": "an object"},
        ]});
        let found = Object::all(&list);
        let titles: Vec<_> = found.iter().map(|object| (object.pointer.as_str(), object.title("x"))).collect();
        assert_eq!(titles, [("/items/0", "Pod x/a".to_owned()), ("/items/1/items/0", "Pod x/b-…".to_owned())]);
        assert_eq!(found.first().and_then(|object| object.namespace), Some("team-a"));
    }

    #[test]
    fn kinds_of_another_group_are_not_taken_for_those_of_kubernetes() {
        for (version, kind, pointer) in [
            ("v1", "Pod", Some("")),
            ("apps/v1", "Deployment", Some("/spec/template")),
            ("batch/v1", "CronJob", Some("/spec/jobTemplate/spec/template")),
            ("example.com/v1", "Deployment", None),
            ("v1", "Service", None),
        ] {
            let value = json!({"apiVersion": version, "kind": kind});
            let found = Object::all(&value);
            assert_eq!(found.first().map(Object::pod_pointer), Some(pointer), "{version} {kind}");
        }
    }
}
