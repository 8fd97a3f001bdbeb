//! A JSON Patch that only adds, made beside a working copy of what it changes.
//!
//! Owns: the operations and keeping the copy equal to what they make. Upholds I10: nothing is removed, and fields that
//! this version does not know are not touched, since the copy is raw JSON.
//! Does not own: what is added.
//!
//! Source: RFC 6902 (JSON Patch), RFC 6901 (JSON Pointer).

use serde_json::{Map, Value, json};

/// A patch in the making.
#[derive(Debug)]
pub(super) struct Patch {
    document: Value,
    operations: Vec<Value>,
}

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// A field of an object.
    Field(&'a str),
    /// An item of an array.
    Item(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(name: &'a str) -> Self {
        Self::Field(name)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Self::Item(index)
    }
}

impl Patch {
    /// An empty patch of a document.
    pub(super) fn of(document: Value) -> Self {
        Self { document, operations: Vec::new() }
    }

    /// The document as the patch leaves it.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    /// What is at a path; a null counts as absent, as it does for the API server.
    pub(super) fn get(&self, path: &[Step<'_>]) -> Option<&Value> {
        at(&self.document, path)
    }

    /// Sets a field that is absent. One that is there stays as it is. Objects on the way are made.
    pub(super) fn set_if_absent(&mut self, parent: &[Step<'_>], field: &str, value: Value) -> bool {
        let path = [parent, &[Step::Field(field)]].concat();
        if self.get(&path).is_some() {
            return false;
        }
        self.ensure(parent, Value::Object(Map::new()));
        self.write("add", &path, value);
        true
    }

    /// Sets a field, whatever it was; nothing is done if it already is so.
    pub(super) fn set(&mut self, parent: &[Step<'_>], field: &str, value: Value) {
        let path = [parent, &[Step::Field(field)]].concat();
        if self.get(&path) == Some(&value) {
            return;
        }
        self.ensure(parent, Value::Object(Map::new()));
        // An `add` of a field that is there replaces it (RFC 6902, 4.1).
        self.write("add", &path, value);
    }

    /// Adds an item to a list of named items, unless one of this name is there. The list is made when it is absent.
    pub(super) fn append_named(&mut self, list: &[Step<'_>], item: Value) -> bool {
        let length = self.length(list);
        self.insert_named(list, length, item)
    }

    /// As [`Self::append_named`], at a place in the list.
    pub(super) fn insert_named(&mut self, list: &[Step<'_>], index: usize, item: Value) -> bool {
        let name = item["name"].as_str().unwrap_or_default();
        if self.position(list, name).is_some() {
            return false;
        }
        self.ensure(list, json!([]));
        let path = [list, &[Step::Item(index)]].concat();
        self.operations.push(json!({"op": "add", "path": pointer(&path), "value": item.clone()}));
        if let Some(Value::Array(items)) = at_mut(&mut self.document, list) {
            items.insert(index.min(items.len()), item);
        }
        true
    }

    /// Adds an item at the end of a list. The list is made when it is absent.
    pub(super) fn append(&mut self, list: &[Step<'_>], item: Value) {
        self.ensure(list, json!([]));
        let path = [list, &[Step::Item(self.length(list))]].concat();
        self.operations.push(json!({"op": "add", "path": pointer(&path), "value": item.clone()}));
        if let Some(Value::Array(items)) = at_mut(&mut self.document, list) {
            items.push(item);
        }
    }

    /// Sets every field of an object that is absent, also within objects that are there. What is there stays as it is.
    pub(super) fn complete(&mut self, place: &[Step<'_>], wanted: &Value) {
        for (field, value) in wanted.as_object().into_iter().flatten() {
            let inner = [place, &[Step::Field(field)]].concat();
            match value.is_object() && self.get(&inner).is_some_and(Value::is_object) {
                true => self.complete(&inner, value),
                false => {
                    self.set_if_absent(place, field, value.clone());
                }
            }
        }
    }

    /// Where the item of this name is in a list.
    pub(super) fn position(&self, list: &[Step<'_>], name: &str) -> Option<usize> {
        self.get(list)?.as_array()?.iter().position(|item| item["name"] == name)
    }

    /// The operations, and the document as they leave it.
    pub(super) fn finish(self) -> (Vec<Value>, Value) {
        (self.operations, self.document)
    }

    fn length(&self, list: &[Step<'_>]) -> usize {
        self.get(list).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Makes what is absent at a path, and what is absent on the way to it.
    fn ensure(&mut self, path: &[Step<'_>], empty: Value) {
        if self.get(path).is_some() {
            return;
        }
        if let Some((_, parent)) = path.split_last() {
            self.ensure(parent, Value::Object(Map::new()));
        }
        self.write("add", path, empty);
    }

    fn write(&mut self, operation: &str, path: &[Step<'_>], value: Value) {
        self.operations.push(json!({"op": operation, "path": pointer(path), "value": value.clone()}));
        let Some((last, parent)) = path.split_last() else { return };
        if let (Step::Field(field), Some(Value::Object(object))) = (last, at_mut(&mut self.document, parent)) {
            object.insert((*field).to_owned(), value);
        }
    }
}

fn at<'a>(document: &'a Value, path: &[Step<'_>]) -> Option<&'a Value> {
    let found = path.iter().try_fold(document, |value, step| match step {
        Step::Field(name) => value.get(*name),
        Step::Item(index) => value.get(*index),
    });
    found.filter(|value| !value.is_null())
}

fn at_mut<'a>(document: &'a mut Value, path: &[Step<'_>]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, step| match step {
        Step::Field(name) => value.get_mut(*name),
        Step::Item(index) => value.get_mut(*index),
    })
}

/// A path as RFC 6901 writes it.
fn pointer(path: &[Step<'_>]) -> String {
    path.iter().fold(String::new(), |mut pointer, step| {
        pointer.push('/');
        match step {
            Step::Field(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
            Step::Item(index) => pointer.push_str(&index.to_string()),
        }
        pointer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the operations make of the document what the working copy says, by an implementation that is not ours.
    fn check(document: Value, change: impl FnOnce(&mut Patch), expected: Value) {
        let mut patch = Patch::of(document.clone());
        change(&mut patch);
        let (operations, copy) = patch.finish();
        assert_eq!(copy, expected);
        let mut applied = document;
        let operations: json_patch::Patch = serde_json::from_value(Value::Array(operations)).expect("it is a patch");
        json_patch::patch(&mut applied, &operations).expect("it applies");
        assert_eq!(applied, expected);
    }

    #[test]
    fn what_is_absent_is_made_on_the_way() {
        check(
            json!({}),
            |patch| {
                patch.set_if_absent(&["metadata".into(), "annotations".into()], "a/b~c", json!("x"));
            },
            json!({"metadata": {"annotations": {"a/b~c": "x"}}}),
        );
    }

    #[test]
    fn a_null_counts_as_absent() {
        check(
            json!({"metadata": {"annotations": null}}),
            |patch| {
                patch.set_if_absent(&["metadata".into(), "annotations".into()], "a", json!("x"));
            },
            json!({"metadata": {"annotations": {"a": "x"}}}),
        );
    }

    #[test]
    fn what_is_there_is_kept_unless_it_is_set() {
        check(
            json!({"a": {"kept": 1, "set": 1}}),
            |patch| {
                patch.set_if_absent(&["a".into()], "kept", json!(2));
                patch.set(&["a".into()], "set", json!(2));
            },
            json!({"a": {"kept": 1, "set": 2}}),
        );
    }

    #[test]
    fn what_is_absent_in_objects_that_are_there_is_set() {
        check(
            json!({"a": {"kept": {"x": 1}, "list": [1], "null": null}}),
            |patch| {
                patch.complete(&["a".into()], &json!({"kept": {"x": 2, "y": 2}, "list": [2], "null": {"z": 2}}));
                patch.append(&["a".into(), "list".into()], json!(3));
                patch.append(&["b".into()], json!(1));
            },
            json!({"a": {"kept": {"x": 1, "y": 2}, "list": [1, 3], "null": {"z": 2}}, "b": [1]}),
        );
    }

    #[test]
    fn named_items_are_added_once_and_where_they_should_be() {
        check(
            json!({"list": [{"name": "a", "extra": true}]}),
            |patch| {
                patch.insert_named(&["list".into()], 0, json!({"name": "first"}));
                patch.append_named(&["list".into()], json!({"name": "a"}));
                patch.append_named(&["list".into()], json!({"name": "last"}));
                patch.append_named(&["other".into()], json!({"name": "only"}));
            },
            json!({"list": [{"name": "first"}, {"name": "a", "extra": true}, {"name": "last"}], "other": [{"name": "only"}]}),
        );
    }
}
