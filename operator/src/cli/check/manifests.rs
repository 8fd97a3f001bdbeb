//! LakeIngests in files, before anybody applies them.
//!
//! Owns: looking at each of them as the controller will, and refusing fields that nobody reads, which the API server would
//! drop with a warning at best. Does not own: the rules (`validate_spec`).

use std::collections::BTreeSet;

use lakeingest_crds::lakeingest::{ImagePolicy, LakeIngest, validate_spec};
use serde_json::Value;

use super::super::documents::{Document, DocumentError};
use super::super::objects::Object;
use super::finding::Finding;

const CHECK: &str = "manifest";

/// The one version that there is.
const VERSION: &str = "lakeingest.io/v1alpha1";

/// What is said of the LakeIngests of these documents.
///
/// # Errors
/// A document says something that JSON has no words for.
pub(super) fn check(documents: &[Document], images: &ImagePolicy) -> Result<Vec<Finding>, DocumentError> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for document in documents {
        let json = document.json()?;
        for object in Object::all(&json).into_iter().filter(|object| object.is("lakeingest.io", "LakeIngest")) {
            let of = match object.namespace {
                Some(namespace) => format!("{}: {namespace}/{}", document.place, object.name()),
                None => format!("{}: {}", document.place, object.name()),
            };
            if !seen.insert((object.namespace.map(str::to_owned), object.name())) {
                findings.push(Finding::fail(CHECK, format!("{of} stands here twice"), "take one of them out"));
            }
            let wrong = violations(object.value, images);
            if wrong.is_empty() {
                findings.push(Finding::ok(CHECK, of.clone()));
            }
            findings
                .extend(wrong.into_iter().map(|(words, next)| Finding::fail(CHECK, format!("{of}: {words}"), next)));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::warn(
            CHECK,
            "there is no LakeIngest in these files",
            format!("its kind is LakeIngest, its apiVersion {VERSION}"),
        ));
    }
    Ok(findings)
}

/// Everything that is wrong with a LakeIngest, each with what to do.
fn violations(value: &Value, images: &ImagePolicy) -> Vec<(String, &'static str)> {
    const EXPLAIN: &str = "kubectl explain lakeingest.spec --recursive has the fields";
    if value["apiVersion"] != VERSION {
        return vec![(format!("apiVersion is not {VERSION}"), "name the version that there is")];
    }
    let mut unknown = Vec::new();
    let parsed: Result<LakeIngest, _> = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()));
    // Every object has these; the type goes without them.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    let mut wrong: Vec<_> =
        unknown.into_iter().map(|path| (format!("{path} is no field of a LakeIngest"), EXPLAIN)).collect();
    match parsed {
        Ok(ingest) => {
            let name = ingest.metadata.name.as_deref().unwrap_or_default();
            if let Err(violations) = validate_spec(name, &ingest.spec, images) {
                wrong.extend(violations.iter().map(|violation| (violation.to_string(), "change that field")));
            }
        }
        Err(error) => wrong.push((error.to_string(), EXPLAIN)),
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::documents;
    use super::super::finding::{is_ready, lines};
    use super::*;
    use crate::fixtures::names;

    fn said(text: &str) -> (bool, String) {
        let documents = documents::split("lake.yaml", text).expect("the test's text is YAML");
        let findings = check(&documents, &names().images).expect("it is JSON");
        (is_ready(&findings), lines(&findings))
    }

    fn lake_ingest(spec: &str) -> String {
        format!(
            "apiVersion: {VERSION}\nkind: LakeIngest\nmetadata: {{name: events, namespace: team-a}}\nspec: {spec}\n"
        )
    }

    #[test]
    fn the_examples_of_the_documentation_are_fine() {
        let (is_ready, lines) = said(include_str!("../../../../docs/examples/03-lakeingest.yaml"));
        assert!(is_ready && lines.contains("team-a/events"), "{lines}");
    }

    /// Invariant I7: the words are those of `validate_spec`.
    #[test]
    fn i7_every_violation_is_said_in_the_words_of_the_controller() {
        let text = lake_ingest("{storage: {bucket: B}, flush: {maxAge: 5ms}}");
        let (is_ready, lines) = said(&text);
        let ingest: LakeIngest = serde_yaml::from_str(&text).expect("it has the right shape");
        let violations = validate_spec("events", &ingest.spec, &names().images).expect_err("it is wrong");
        assert!(!is_ready && violations.iter().count() > 1);
        for violation in violations.iter() {
            assert!(lines.contains(&violation.to_string()), "{violation}: {lines}");
        }
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused_with_its_path() {
        let (is_ready, lines) = said(&lake_ingest(
            "{storage: {bucket: lake, buckett: x}, flush: {maxage: 5s}, tables: [{name: t, colums: []}]}",
        ));
        assert!(!is_ready);
        for path in ["spec.storage.buckett", "spec.flush.maxage", "spec.tables.0.colums"] {
            assert!(lines.contains(path), "{path}: {lines}");
        }
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        for (text, words) in [
            (lake_ingest("{}"), "storage"),
            (lake_ingest("{storage: {bucket: lake}}").replace("v1alpha1", "v2"), "apiVersion is not"),
            (format!("{0}---\n{0}", lake_ingest("{storage: {bucket: lake}}")), "twice"),
        ] {
            let (is_ready, lines) = said(&text);
            assert!(!is_ready && lines.contains(words), "{lines}");
        }
        assert!(said("kind: Pod\napiVersion: v1\n").1.starts_with("warn"));
    }
}
