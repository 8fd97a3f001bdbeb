//! What the API server checks, with words that help.
//!
//! Owns: the rules in CEL, each with the message that [`super::validate_spec`] gives too; the whole definition.
//! Does not own: what the fields mean.
//!
//! Rules are CEL and not patterns where a person may get it wrong: a pattern's message is the pattern.
//! Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{CONDITION_MESSAGE_CHARACTERS_MAX, LakeIngest, NAME_LENGTH_MAX};

/// What a name must be.
pub const NAME_RULE: &str = "must begin with a lower-case letter, hold lower-case letters, digits and '-', not end with '-', have at most 40 characters, and not be \"true\" or \"false\"";
/// What an endpoint must be.
pub const ENDPOINT_RULE: &str =
    "must be https:// or http:// with a host and perhaps a port (1 to 65535), without a path and without credentials";
/// When an endpoint may be insecure.
pub const INSECURE_RULE: &str = "the endpoint is not https; allowInsecure: true allows it";
/// When a bucket may be in the host's name.
pub const VIRTUAL_HOST_RULE: &str =
    "addressing: virtualHost needs an endpoint that is a name; an address has no names below it";
/// What a key of a ConfigMap must be.
pub const CONFIG_MAP_KEY_RULE: &str = "must be a key as a ConfigMap has them: letters, digits, '-', '_' and '.'";
/// How the buffer and the flush depend on each other.
pub const ROOM_RULE: &str =
    "must be at least twice flush.maxBytes: the journal takes records while a flush is under way";

/// How a request and its limit depend on each other.
pub const REQUEST_RULE: &str = "must be at most the limit";
/// What a region must be.
pub const REGION_RULE: &str = "must be a region such as us-east-1";
/// What the name of another object must be.
pub const OBJECT_NAME_RULE: &str = "must be a name as Kubernetes has them: lower-case letters, digits, '-' and '.'";
/// What a share of the processor must be.
pub const CPU_RULE: &str = "write cores or thousandths of one, for example 1, 0.5 or 250m";
/// What a request for memory must be.
pub const MEMORY_RULE: &str = "must be 64Mi to 1Ti";
/// What a limit of memory must be.
pub const MEMORY_LIMIT_RULE: &str =
    "must be at least 256Mi: a sidecar at its busiest takes more than less would give it";
/// What cannot change.
pub const TYPE_RULE: &str = "a column keeps its type for ever, since the files that are there have it, but for fields that come to a struct; add another column";
/// What a port must be.
pub const PORT_RULE: &str = "must be 1024 to 65535: the sidecar has no privilege";

/// Longest text of a quantity or a duration; a bound lets the API server estimate what a rule costs.
const VALUE_LENGTH_MAX: u32 = 32;

/// `Quantity` in words, as its own parser says it.
const QUANTITY_RULE: &str =
    "write a whole number with an optional suffix Ki, Mi, Gi, Ti, k, M, G or T, for example 128Mi";
/// `Seconds` in words, as its own parser says it.
const DURATION_RULE: &str = "write a whole number with a unit ms, s, m or h, for example 60s";

const QUANTITY_FORM: &str = "^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$";
const DURATION_FORM: &str = "^[0-9]{1,9}(ms|s|m|h)$";

/// The definition, as it is installed into a cluster.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = serde_json::to_value(LakeIngest::crd()).expect("a definition is plain data");
    for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let root = &mut version["schema"]["openAPIV3Schema"];
        tidy(root);
        let form = format!(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= {NAME_LENGTH_MAX} \
             && !(self.metadata.name in ['true', 'false'])"
        );
        root["x-kubernetes-validations"] = json!([rule_at(&form, &format!("metadata.name {NAME_RULE}"), None)]);
    }
    serde_json::from_value(definition).expect("it was a definition before it was tidied")
}

/// Takes out what the API server does not know (`format: uint32`) and what says nothing (`default: null`).
fn tidy(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        let is_unsigned = object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
        if is_unsigned {
            object.remove("format");
            // Whoever has a narrower bound has said so.
            object.entry("minimum").or_insert(json!(0));
        }
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(tidy),
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn rule(form: &str, message: &str) -> Value {
    rule_at(form, message, None)
}

fn rule_at(form: &str, message: &str, field: Option<&str>) -> Value {
    let mut rule = json!({"rule": form, "message": message});
    if let Some(field) = field {
        rule["fieldPath"] = json!(field);
    }
    rule
}

fn add(schema: &mut Schema, rules: impl IntoIterator<Item = Value>) {
    let rules: Vec<Value> = rules.into_iter().collect();
    schema.insert("x-kubernetes-validations".to_owned(), rules.into());
}

fn text(schema: &mut Schema, length_max: u32, rules: impl IntoIterator<Item = Value>) {
    schema.insert("maxLength".to_owned(), length_max.into());
    add(schema, rules);
}

fn quantity(schema: &mut Schema, from: &str, to: &str) {
    let within = format!(
        "!self.matches('{QUANTITY_FORM}') || (quantity(self).compareTo(quantity('{from}')) >= 0 && \
         quantity(self).compareTo(quantity('{to}')) <= 0)"
    );
    let form = format!("self.matches('{QUANTITY_FORM}')");
    text(schema, VALUE_LENGTH_MAX, [rule(&form, QUANTITY_RULE), rule(&within, &format!("must be {from} to {to}"))]);
}

/// `metadata.name`-like names of other objects.
pub(super) fn object_name(schema: &mut Schema) {
    let form = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";
    text(schema, 253, [rule(form, OBJECT_NAME_RULE)]);
}

/// Which of the sources of keys there may be.
pub const CREDENTIALS_RULE: &str = "must have either secretRef or workloadIdentity";
/// What an audience may be.
pub const AUDIENCE_RULE: &str = "must be 1 to 253 characters without spaces";
/// What a role may be.
pub const ROLE_RULE: &str = "must be an ARN, such as arn:aws:iam::123456789012:role/lake";

/// `storage.credentials`.
pub(super) fn credentials(schema: &mut Schema) {
    add(schema, [rule("has(self.secretRef) != has(self.workloadIdentity)", CREDENTIALS_RULE)]);
}

/// `storage.credentials.workloadIdentity.audience`.
pub(super) fn audience(schema: &mut Schema) {
    text(schema, 253, [rule("self.matches('^[!-~]+$')", AUDIENCE_RULE)]);
}

/// `storage.credentials.workloadIdentity.aws.roleArn`.
pub(super) fn role_arn(schema: &mut Schema) {
    text(schema, 2_048, [rule("self.matches('^arn:[!-~]+$')", ROLE_RULE)]);
}

/// `storage.bucket`.
pub(super) fn bucket(schema: &mut Schema) {
    let form = "self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$') && !self.contains('..')";
    text(schema, 63, [rule(form, &crate::sidecar_config::bucket_rule())]);
}

/// `storage.prefix`.
pub(super) fn prefix(schema: &mut Schema) {
    let form = "self.matches('^[A-Za-z0-9-][A-Za-z0-9._-]*(/[A-Za-z0-9-][A-Za-z0-9._-]*)*$')";
    text(schema, 256, [rule(form, crate::sidecar_config::PREFIX_RULE)]);
}

/// `storage.takeOverFrom`.
pub(super) fn owner(schema: &mut Schema) {
    let form = "self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)?$')";
    text(schema, 512, [rule(form, crate::sidecar_config::OWNER_RULE)]);
}

/// `storage.region`.
pub(super) fn region(schema: &mut Schema) {
    let form = "self.matches('^[a-z0-9-]+$')";
    text(schema, 64, [rule(form, REGION_RULE)]);
}

/// `storage.s3`.
pub(super) fn s3(schema: &mut Schema) {
    let form = "!has(self.endpoint) || !self.endpoint.startsWith('http://') || self.allowInsecure";
    let virtual_host = "!has(self.addressing) || self.addressing != 'virtualHost' || !has(self.endpoint) || \
                        !self.endpoint.matches('^https?://([0-9.]+(:|/|$)|[\\\\[])')";
    add(schema, [rule(form, INSECURE_RULE), rule(virtual_host, VIRTUAL_HOST_RULE)]);
}

/// `storage.s3.encryption`.
pub(crate) fn encryption(schema: &mut Schema) {
    let form = "!has(self.kmsKeyId) || self.mode == 'aws:kms'";
    add(schema, [rule(form, crate::sidecar_config::KMS_MODE_RULE)]);
}

/// `storage.s3.encryption.kmsKeyId`.
pub(crate) fn kms_key_id(schema: &mut Schema) {
    let form = "self.matches('^[A-Za-z0-9:/_-]+$')";
    text(schema, 2_048, [rule(form, crate::sidecar_config::KMS_KEY_RULE)]);
}

/// `storage.s3.caBundle.configMapKeyRef.key`.
pub(super) fn config_map_key(schema: &mut Schema) {
    let form = "self.matches('^[A-Za-z0-9._-]+$') && !(self in ['.', '..'])";
    text(schema, 253, [rule(form, CONFIG_MAP_KEY_RULE)]);
}

/// `storage.s3.endpoint`.
pub(super) fn endpoint(schema: &mut Schema) {
    let host = r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\])";
    // 1 to 65535.
    let port = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    text(schema, 512, [rule(&format!("self.matches('^https?://{host}(:{port})?/?$')"), ENDPOINT_RULE)]);
}

/// `flush.maxBytes`.
pub(crate) fn max_bytes(schema: &mut Schema) {
    quantity(schema, "64Ki", "1Gi");
}

/// `flush.maxAge`.
pub(crate) fn max_age(schema: &mut Schema) {
    let form = format!("self.matches('{DURATION_FORM}')");
    let within = format!(
        "!self.matches('{DURATION_FORM}') || (duration(self) >= duration('1s') && duration(self) <= duration('1h'))"
    );
    text(schema, VALUE_LENGTH_MAX, [rule(&form, DURATION_RULE), rule(&within, "must be 1s to 1h")]);
}

/// `buffer.sizeLimit`.
pub(crate) fn journal_size(schema: &mut Schema) {
    quantity(schema, "32Mi", "1Ti");
}

/// `buffer.scratchSizeLimit`.
pub(crate) fn scratch_size(schema: &mut Schema) {
    quantity(schema, "64Mi", "1Ti");
}

/// A list whose items are told apart by their names.
fn named(schema: &mut Schema, items_max: usize) {
    schema.insert("maxItems".to_owned(), items_max.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["name"]));
}

/// A text of a list that is so long that the API server would reckon a rule for each of its items too dear: its pattern is
/// its own message. The operator says the same in words.
fn pattern(schema: &mut Schema, length_max: usize, pattern: &str) {
    schema.insert("minLength".to_owned(), 1.into());
    schema.insert("maxLength".to_owned(), length_max.into());
    schema.insert("pattern".to_owned(), pattern.into());
}

/// `tables`.
pub(super) fn tables(schema: &mut Schema) {
    named(schema, crate::tables::TABLES_MAX);
}

/// What an image may be.
pub const IMAGE_RULE: &str = "write an image as repository:tag or repository@sha256:…";

/// `sidecar.image`.
pub(super) fn image(schema: &mut Schema) {
    let form =
        r"self.matches('^([^@:/ ]+(:[0-9]+)?/)?[^@: ]+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$')";
    text(schema, 512, [rule(form, IMAGE_RULE)]);
}

/// Most Secrets of `sidecar.imagePullSecrets`.
pub(super) const PULL_SECRETS_MAX: usize = 8;

/// `sidecar.imagePullSecrets`.
pub(super) fn image_pull_secrets(schema: &mut Schema) {
    named(schema, PULL_SECRETS_MAX);
}

/// `tables[].name`.
pub(crate) fn table_name(schema: &mut Schema) {
    pattern(schema, crate::names::TABLE_NAME_BYTES_MAX, "^[a-z][a-z0-9_]*$");
    add(schema, [rule("!self.endsWith('_quarantine')", crate::tables::TABLE_NAME_RULE)]);
}

/// `tables[]`: what depends on more than one of its parts.
pub(crate) fn table(schema: &mut Schema) {
    let form = "!has(self.partition) || (has(self.columns) && self.columns.exists(column, column.name == self.partition.by && \
                (column.type == 'date' || column.type == 'timestamp')))";
    // Their types are left to the operator: to look at them too would cost more than a rule may.
    let order = "!has(self.orderBy) || self.orderBy.all(name, has(self.columns) && \
                 self.columns.exists(column, column.name == name))";
    let transform = "!has(self.transform) || (has(self.columns) && size(self.columns) > 0 && \
                     self.onUnknownColumn != 'add')";
    add(
        schema,
        [
            rule_at(form, crate::tables::PARTITION_RULE, Some(".partition.by")),
            rule_at(order, crate::tables::ORDER_RULE, Some(".orderBy")),
            rule_at(transform, crate::tables::TRANSFORM_RULE, Some(".transform")),
        ],
    );
}

/// `tables[].orderBy`.
pub(crate) fn order_by(schema: &mut Schema) {
    schema.insert("maxItems".to_owned(), crate::tables::ORDER_BY_MAX.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "set".into());
    let name = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": crate::names::COLUMN_NAME_BYTES_MAX,
        "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
    });
    schema.insert("items".to_owned(), name);
}

/// `tables[].transform`: its length; the sidecar reads it.
pub(crate) fn transform(schema: &mut Schema) {
    schema.insert("minLength".to_owned(), 1.into());
    schema.insert("maxLength".to_owned(), crate::tables::TRANSFORM_BYTES_MAX.into());
}

/// `tables[].columns`.
pub(crate) fn columns(schema: &mut Schema) {
    named(schema, crate::tables::NAMES_MAX);
}

/// `tables[].columns[]`: what a change may not do.
pub(crate) fn column(schema: &mut Schema) {
    let form = "self.type == oldSelf.type || (self.type.startsWith('struct(') && oldSelf.type.startsWith('struct('))";
    add(schema, [rule_at(form, TYPE_RULE, Some(".type"))]);
}

/// `tables[].columns[].name`.
pub(crate) fn column_name(schema: &mut Schema) {
    pattern(schema, crate::names::COLUMN_NAME_BYTES_MAX, "^[A-Za-z_][A-Za-z0-9_]*$");
}

/// `tables[].columns[].type`: its characters; the operator reads it.
pub(crate) fn column_type(schema: &mut Schema) {
    pattern(schema, crate::tables::TYPE_BYTES_MAX, "^[a-z]+([(][A-Za-z0-9_(), ]+[)])?$");
}

/// Processor time.
pub(super) fn cpu(schema: &mut Schema) {
    let form = r"self.matches('^([0-9]{1,6}m|[0-9]{1,4}(\\.[0-9]{1,3})?)$')";
    text(schema, VALUE_LENGTH_MAX, [rule(form, CPU_RULE)]);
}

/// Memory.
pub(super) fn memory(schema: &mut Schema) {
    quantity(schema, "64Mi", "1Ti");
}

/// `sidecar.resources`.
pub(super) fn resources(schema: &mut Schema) {
    let within = |resource: &str| {
        let form = format!(
            "!has(self.requests.{resource}) || !has(self.limits.{resource}) || \
             quantity(self.requests.{resource}).compareTo(quantity(self.limits.{resource})) <= 0"
        );
        rule_at(&form, REQUEST_RULE, Some(&format!(".requests.{resource}")))
    };
    // A limit alone has a bound of its own: a request that is less than it is ordinary.
    let limit = "!has(self.limits.memory) || quantity(self.limits.memory).compareTo(quantity('256Mi')) >= 0";
    add(schema, [within("cpu"), within("memory"), rule_at(limit, MEMORY_LIMIT_RULE, Some(".limits.memory"))]);
}

/// `sidecar`.
pub(super) fn sidecar(schema: &mut Schema) {
    add(
        schema,
        [rule_at("self.port != self.healthPort", "must be another port than sidecar.port", Some(".healthPort"))],
    );
}

/// `spec`: what depends on more than one of its parts.
pub(super) fn spec(schema: &mut Schema) {
    let is_read =
        format!("self.flush.maxBytes.matches('{QUANTITY_FORM}') && self.buffer.sizeLimit.matches('{QUANTITY_FORM}')");
    let form = format!(
        "!({is_read}) || quantity(self.flush.maxBytes).add(quantity(self.flush.maxBytes))\
         .compareTo(quantity(self.buffer.sizeLimit)) <= 0"
    );
    add(schema, [rule_at(&form, ROOM_RULE, Some(".buffer.sizeLimit"))]);
}

/// A point in time.
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// Conditions, as every resource has them.
/// Source: `metav1.Condition`, <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "Something that is well or not.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "description": "What is spoken of, for example `Ready`.", "maxLength": 316},
                "status": {"type": "string", "description": "Whether it is so.", "enum": ["True", "False", "Unknown"]},
                "reason": {"type": "string", "description": "Why, in one word.", "maxLength": 1024, "minLength": 1},
                "message": {"type": "string", "description": "Why, for a person.", "maxLength": CONDITION_MESSAGE_CHARACTERS_MAX},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "Since when the status is what it is."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The generation that it is about."},
            },
        },
    })
}

#[cfg(test)]
mod tests;
