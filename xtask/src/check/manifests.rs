//! Manifests: the chart's, rendered, and those of the documentation, field for field against what Kubernetes describes.
//!
//! Owns: making the schemas that kubeconform reads from the API's own description, so that nothing is downloaded that is
//! not pinned. Does not own: the manifests.
//!
//! Source: `api/openapi-spec/swagger.json` of the module k8s.io/kubernetes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::commands::{command, run_shown};
use crate::versions::KUBERNETES;
use crate::{examples, tools, workspace};

use super::chart;

/// Which kind of object, as a manifest says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}

/// Checks every manifest.
pub(super) fn check() -> Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests).context("failed to make a folder")?;
    fs::write(manifests.join("chart.yaml"), chart::render()?).context("failed to write the rendered chart")?;
    let source = workspace::root().join(examples::FOLDER);
    for entry in fs::read_dir(&source).with_context(|| format!("failed to read {}", source.display()))? {
        let path = entry.context("failed to list the examples")?.path();
        if let (Some("yaml"), Some(name)) = (path.extension().and_then(|end| end.to_str()), path.file_name()) {
            fs::copy(&path, manifests.join(name)).with_context(|| format!("failed to read {}", path.display()))?;
        }
    }
    let kinds = kinds_below(&manifests)?;
    let schemas = folder.path().join("schemas");
    fs::create_dir(&schemas).context("failed to make a folder")?;
    write_schemas(&schemas, &kinds)?;

    let mut conform = command(tools::kubeconform()?)?;
    conform.args(["-strict", "-summary", "-schema-location"]);
    conform.arg(schemas.join("{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json")).arg(&manifests);
    run_shown(conform)
}

/// Kinds of all the objects in a folder's files.
fn kinds_below(folder: &Path) -> Result<BTreeSet<Kind>> {
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(folder).context("failed to list the manifests")? {
        let path = entry.context("failed to list the manifests")?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        kinds.extend(kinds_of(&text).with_context(|| format!("failed to parse {}", path.display()))?);
    }
    Ok(kinds)
}

fn kinds_of(text: &str) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        if object.is_null() {
            continue;
        }
        let word = |field: &str| object[field].as_str().with_context(|| format!("an object has no {field}"));
        let (group, version) = word("apiVersion")?.rsplit_once('/').unwrap_or(("", word("apiVersion")?));
        kinds.push(Kind { group: group.to_owned(), version: version.to_owned(), kind: word("kind")?.to_owned() });
    }
    Ok(kinds)
}

fn write_schemas(folder: &Path, kinds: &BTreeSet<Kind>) -> Result<()> {
    let path = tools::kubernetes_source(&KUBERNETES[0])?.join("api/openapi-spec/swagger.json");
    let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let description: Value = serde_json::from_slice(&text).context("failed to read the API's description")?;
    let definitions = description["definitions"].as_object().context("failed to find the API's definitions")?;
    for kind in kinds {
        let schema = match own_schema(kind)? {
            Some(schema) => schema,
            None => schema_of(definitions, kind)?,
        };
        // As the program names them: kinds in lower case, and the version for the group that has no name.
        let group = if kind.group.is_empty() { &kind.version } else { &kind.group };
        let name = format!("{group}_{}_{}.json", kind.version, kind.kind.to_lowercase());
        fs::write(folder.join(name), schema.to_string()).context("failed to write a schema")?;
    }
    Ok(())
}

/// The schema of a kind that this repository defines.
fn own_schema(kind: &Kind) -> Result<Option<Value>> {
    if kind.group != "lakeingest.io" {
        return Ok(None);
    }
    let path = workspace::root().join("crds/yaml/lakeingests.lakeingest.io.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let definition: Value = serde_yaml::from_str(&text).context("failed to parse the definition of LakeIngest")?;
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({"type": "string"});
    }
    schema["properties"]["metadata"] = json!({"type": "object"});
    close(&mut schema);
    schema["properties"]["metadata"] = json!({"type": "object"});
    Ok(Some(schema))
}

/// The schema of one of Kubernetes' own kinds, with every definition that it refers to.
fn schema_of(definitions: &Map<String, Value>, kind: &Kind) -> Result<Value> {
    let wanted = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let is_wanted = |definition: &Value| {
        definition["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
    };
    let found = definitions.iter().find(|(_, definition)| is_wanted(definition));
    let (name, _) = found.with_context(|| format!("Kubernetes {} has no {kind:?}", KUBERNETES[0].version))?;
    let (mut needed, mut open) = (BTreeSet::new(), vec![name.clone()]);
    while let Some(name) = open.pop() {
        if needed.insert(name.clone()) {
            collect_references(&definitions[&name], &mut open);
        }
    }
    let mut schemas = Map::new();
    for name in needed {
        let mut definition = definitions[&name].clone();
        close(&mut definition);
        schemas.insert(name, definition);
    }
    ensure!(schemas.contains_key(name), "the definition {name} is lost");
    Ok(json!({"$ref": format!("#/definitions/{name}"), "definitions": schemas}))
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                found.extend(name.strip_prefix("#/definitions/").map(str::to_owned));
            }
            fields.values().for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// Refuses fields that are not described, and lets numbers be where the API takes a number or a text.
fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let is_either = fields.get("format").and_then(Value::as_str) == Some("int-or-string")
        || fields.contains_key("x-kubernetes-int-or-string")
        || fields
            .get("description")
            .and_then(Value::as_str)
            .is_some_and(|words| words.starts_with("Quantity is a fixed-point representation"));
    if is_either {
        fields.insert("type".to_owned(), json!(["string", "number"]));
        fields.remove("format");
    }
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
        let keeps = fields.contains_key("x-kubernetes-preserve-unknown-fields");
        fields.insert("additionalProperties".to_owned(), json!(keeps));
    }
    // Not every value: the names of properties may be words of the schema's own language.
    for part in ["items", "additionalProperties"] {
        fields.get_mut(part).into_iter().for_each(close);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_a_file_is_an_object_of_a_kind() {
        let kinds =
            kinds_of("# words\n---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: Secret\n");
        let kinds: Vec<_> = kinds.expect("they parse").into_iter().map(|kind| (kind.group, kind.kind)).collect();
        assert_eq!(kinds, [("apps".to_owned(), "Deployment".to_owned()), (String::new(), "Secret".to_owned())]);
    }

    #[test]
    fn fields_that_nobody_describes_are_refused() {
        let mut schema =
            json!({"properties": {"a": {"properties": {"b": {"format": "int-or-string", "type": "string"}}}}});
        close(&mut schema);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["a"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["a"]["properties"]["b"]["type"], json!(["string", "number"]));
    }
}
