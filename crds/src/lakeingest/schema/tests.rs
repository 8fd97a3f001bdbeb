//! The definition held against the rules for definitions, its files and its types.

use std::path::Path;

use super::*;
use crate::lakeingest::{LakeIngestSpec, yaml};

fn root() -> Value {
    let definition = serde_json::to_value(definition()).expect("a definition is plain data");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `look` with the path and the schema of every property.
fn each_property(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, property);
        each_property(property, &path, look);
        each_property(&property["items"], &format!("{path}[]"), look);
    }
}

#[test]
fn the_generated_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let wanted = yaml().expect("the definition can be written");
    for file in ["crds/yaml/lakeingests.lakeingest.io.yaml", "charts/lakeingest/files/lakeingests.lakeingest.io.yaml"] {
        let found = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(found == wanted, "{file} is stale; write it anew with: cargo xtask crdgen");
    }
}

#[test]
fn every_property_is_described() {
    let mut bare = Vec::new();
    each_property(&root(), "", &mut |path, property| {
        let is_described = property["description"].as_str().is_some_and(|text| text.ends_with('.'));
        if !is_described {
            bare.push(path.to_owned());
        }
    });
    assert_eq!(bare, Vec::<String>::new());
}

#[test]
fn nothing_has_a_format_that_the_api_server_does_not_know() {
    each_property(&root(), "", &mut |path, property| {
        let format = property["format"].as_str().unwrap_or("int64");
        assert!(["int64", "int32", "date-time"].contains(&format), "{path}: {format}");
    });
}

#[test]
fn no_default_is_null() {
    assert!(!root().to_string().contains(r#""default":null"#));
    each_property(&root(), "", &mut |path, property| {
        assert!(!property["default"].to_string().contains(":null"), "{path}: {}", property["default"]);
    });
}

/// Goal: what the API server fills in is what the code fills in.
/// Method: fill in by the schema's defaults as the API server does, and by the types' own.
#[test]
fn the_defaults_of_the_schema_are_those_of_the_code() {
    fn fill(value: &mut Value, schema: &Value) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, property) in properties {
            if let (Some(object), Some(default)) = (value.as_object_mut(), property.get("default")) {
                object.entry(name).or_insert_with(|| default.clone());
            }
            if let Some(inner) = value.get_mut(name) {
                fill(inner, property);
            }
        }
    }
    let minimal = json!({"storage": {"bucket": "lake-data"}});
    let mut by_schema = minimal.clone();
    fill(&mut by_schema, &root()["properties"]["spec"]);
    let by_code: LakeIngestSpec = serde_json::from_value(minimal).expect("a bucket is all that is needed");
    assert_eq!(by_schema, serde_json::to_value(by_code).expect("a specification is plain data"));
}

#[test]
fn every_rule_has_a_message_and_every_text_a_longest_length() {
    each_property(&root(), "", &mut |path, property| {
        for rule in property["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].as_str().is_some_and(|message| !message.is_empty()), "{path}: {rule}");
        }
        let is_free_text = property["type"] == "string" && property["enum"].is_null() && property["format"].is_null();
        assert!(!is_free_text || property["maxLength"].is_number(), "{path} has no longest length");
    });
}
