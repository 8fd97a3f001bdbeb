//! What a pod wants otherwise than its LakeIngest has it.
//!
//! Owns: the annotations by which a pod says so, the container and the volumes of the sidecar's names that it brings itself,
//! and refusing what could not work: no pod starts half wired. Does not own: the container that comes of it (`container`).

use lakeingest_crds::Quantity;
use lakeingest_crds::lakeingest::{Resources, schema, validate_resources};
use serde_json::Value;

use super::amounts::Amount;
use super::{Refusal, items};
use crate::controller::ValidatedIngest;
use crate::names::{
    CONTAINER, CONTAINERS, HEALTH_PORT_ANNOTATION, JOURNAL_VOLUME, PORT_ANNOTATION, RESOURCES, SCRATCH_VOLUME,
    TOKEN_PATH, shown,
};

/// An image by which a pod's own container of the sidecar's name says that it has none of its own: a Deployment's template
/// cannot leave it out.
const AUTOMATIC: &str = "auto";

/// Fields that a pod's own container may have; all others are the sidecar's.
const OWN_FIELDS: [&str; 10] = [
    "name",
    "image",
    "imagePullPolicy",
    "resources",
    "env",
    "volumeMounts",
    "restartPolicy",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// Containers that a refusal lists.
const LISTED_MAX: usize = 10;

/// What a pod wants.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    /// The LakeIngest as it is for this pod.
    pub(super) ingest: ValidatedIngest,
    /// The containers that are told where the sidecar is; none: each of the application.
    pub(super) told: Option<Vec<String>>,
}

impl Wishes {
    /// Reads what a pod wants.
    ///
    /// # Errors
    /// It cannot have it; the words name the annotation or the field.
    pub(super) fn of(pod: &Value, ingest: &ValidatedIngest) -> Result<Self, Refusal> {
        let mut ingest = ingest.clone();
        set_ports(pod, &mut ingest)?;
        set_resources(pod, &mut ingest)?;
        set_sizes(&pod["spec"], &mut ingest)?;
        Ok(Self { ingest, told: told(pod)? })
    }
}

fn refused(place: impl Into<String>, detail: impl Into<String>) -> Refusal {
    Refusal::Wish { place: place.into(), detail: detail.into() }
}

fn of_annotation(annotation: &str, detail: impl Into<String>) -> Refusal {
    refused(format!("annotation {annotation}"), detail)
}

/// The text of an annotation; none if it is not there.
fn annotation<'a>(pod: &'a Value, name: &str) -> Result<Option<&'a str>, Refusal> {
    match &pod["metadata"]["annotations"][name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.trim())),
        _ => Err(of_annotation(name, "must be a text")),
    }
}

fn set_ports(pod: &Value, ingest: &mut ValidatedIngest) -> Result<(), Refusal> {
    let server = &mut ingest.spec.config.server;
    for (name, port) in [(PORT_ANNOTATION, &mut server.port), (HEALTH_PORT_ANNOTATION, &mut server.health_port)] {
        let Some(text) = annotation(pod, name)? else { continue };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|port| is_number && *port >= 1_024);
        *port = number.ok_or_else(|| of_annotation(name, format!("is \"{}\"; {}", shown(text), schema::PORT_RULE)))?;
    }
    if server.port == server.health_port {
        let detail =
            format!("the sidecar's port and its health port are both {}; give one of them another", server.port);
        return Err(of_annotation(PORT_ANNOTATION, detail));
    }
    Ok(())
}

/// A pod's values over those of the LakeIngest, each by itself.
fn set_resources(pod: &Value, ingest: &mut ValidatedIngest) -> Result<(), Refusal> {
    let mut stated = ingest.spec.stated_resources.clone();
    let (mut place, mut of_container) = (None, Resources::default());
    if let Some(container) = own_container(&pod["spec"]).filter(|container| !container["resources"].is_null()) {
        let at = format!("container \"{CONTAINER}\" of the pod: resources");
        of_container = read_resources(&at, &container["resources"])?;
        stated = of_container.clone().over(&stated);
        place = Some(at);
    }
    if let Some(text) = annotation(pod, RESOURCES)? {
        let at = format!("annotation {RESOURCES}");
        let json = serde_json::from_str(text).map_err(|error| {
            let example = "write JSON, for example {\"requests\": {\"memory\": \"512Mi\"}}";
            refused(&at, format!("{example}; {error}"))
        })?;
        let wished = read_resources(&at, &json)?;
        if let Some((name, wished, found)) = contradiction(&wished, &of_container) {
            let detail =
                format!("{name} is {wished}, and {found} in container \"{CONTAINER}\" of the pod; say it once");
            return Err(refused(at, detail));
        }
        stated = wished.over(&stated);
        place = Some(at);
    }
    if let Some(place) = place {
        ingest.spec.resources =
            validate_resources("resources", &stated).map_err(|violations| refused(place, violations.to_string()))?;
    }
    Ok(())
}

/// What two wishes say differently: its name, and both values. The container's own could not be changed.
fn contradiction<'a>(one: &'a Resources, other: &'a Resources) -> Option<(&'static str, &'a str, &'a str)> {
    let pairs = [
        ("requests.cpu", &one.requests.cpu, &other.requests.cpu),
        ("requests.memory", &one.requests.memory, &other.requests.memory),
        ("limits.cpu", &one.limits.cpu, &other.limits.cpu),
        ("limits.memory", &one.limits.memory, &other.limits.memory),
    ];
    let amount = |text: &str| Amount::of(&Value::from(text));
    let mut said_twice =
        pairs.into_iter().filter_map(|(name, one, other)| Some((name, one.as_deref()?, other.as_deref()?)));
    said_twice.find(|(_, one, other)| amount(one) != amount(other))
}

/// Resources of which each value is understood: one that is not would be no wish that was heard.
fn read_resources(at: &str, json: &Value) -> Result<Resources, Refusal> {
    // A list would be taken for its values in their order.
    let is_object = |value: &Value| value.is_object() || value.is_null();
    if !json.is_object() || !json.as_object().into_iter().flatten().all(|(_, value)| is_object(value)) {
        return Err(refused(at, "must be an object with requests and limits, each an object with cpu and memory"));
    }
    let mut json = json.clone();
    // As the API server reads them.
    for value in json.as_object_mut().into_iter().flatten().filter_map(|(_, list)| list.as_object_mut()).flatten() {
        if value.1.is_number() {
            *value.1 = Value::from(value.1.to_string());
        }
    }
    let mut unknown = Vec::new();
    let read: Result<Resources, _> = serde_ignored::deserialize(&json, |path| unknown.push(shown(&path.to_string())));
    let read = read.map_err(|error| refused(at, shown(&error.to_string())))?;
    match unknown.first() {
        Some(path) => Err(refused(at, format!("{path} is not known; there are cpu and memory of requests and limits"))),
        None => Ok(read),
    }
}

/// A pod may give the journal and the scratch files volumes of another size; they stay on the node's disk.
fn set_sizes(spec: &Value, ingest: &mut ValidatedIngest) -> Result<(), Refusal> {
    let buffer = &mut ingest.spec.config.buffer;
    for (name, size) in [(JOURNAL_VOLUME, &mut buffer.size_limit), (SCRATCH_VOLUME, &mut buffer.scratch_size_limit)] {
        let found = items(&spec["volumes"]).find(|volume| volume["name"] == name);
        // One of another kind is a stranger's, and is refused as such.
        if let Some(found) = found.and_then(size_of) {
            *size = found;
        }
    }
    let config = &ingest.spec.config;
    let too_small = config.flush.max_bytes.bytes().saturating_mul(2) > config.buffer.size_limit.bytes();
    let room = too_small.then(|| (JOURNAL_VOLUME, format!("is {}; {}", config.buffer.size_limit, schema::ROOM_RULE)));
    let range = config.violations().into_iter().find_map(|violation| match &*violation.field {
        "buffer.sizeLimit" => Some((JOURNAL_VOLUME, violation.detail)),
        "buffer.scratchSizeLimit" => Some((SCRATCH_VOLUME, violation.detail)),
        _ => None,
    });
    match range.or(room) {
        Some((name, detail)) => Err(refused(format!("volume \"{name}\" of the pod: emptyDir.sizeLimit"), detail)),
        None => Ok(()),
    }
}

/// The size of a volume on the node's disk; none for other volumes, and for one without a bound.
fn size_of(volume: &Value) -> Option<Quantity> {
    let fields = volume.as_object()?;
    let folder = &volume["emptyDir"];
    let is_on_disk = folder["medium"].as_str().unwrap_or_default().is_empty();
    let is_only_that =
        fields.iter().all(|(name, value)| matches!(name.as_str(), "name" | "emptyDir") || value.is_null());
    folder["sizeLimit"].as_str().filter(|_| is_on_disk && is_only_that)?.parse().ok()
}

/// The containers that are told where the sidecar is.
fn told(pod: &Value) -> Result<Option<Vec<String>>, Refusal> {
    let Some(text) = annotation(pod, CONTAINERS)? else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let spec = &pod["spec"];
    let has_name = |container: &&Value| container["name"] != CONTAINER;
    let others = items(&spec["containers"]).chain(items(&spec["initContainers"])).filter(has_name);
    let existing: Vec<&str> = others.filter_map(|container| container["name"].as_str()).collect();
    match names.iter().find(|name| !existing.contains(&name.as_str())) {
        Some(unknown) => {
            let listed: Vec<String> = existing.iter().take(LISTED_MAX).map(|name| shown(name)).collect();
            let detail = format!("the pod has no container \"{}\"; it has {}", shown(unknown), listed.join(", "));
            Err(of_annotation(CONTAINERS, detail))
        }
        None => Ok(Some(names)),
    }
}

/// The container of the sidecar's name that a pod brings itself, to have some fields its own way: one without arguments,
/// which the sidecar's own has.
pub(super) fn own_container(spec: &Value) -> Option<&Value> {
    let found = items(&spec["initContainers"]).find(|container| container["name"] == CONTAINER)?;
    (is_empty(&found["args"]) && is_empty(&found["command"])).then_some(found)
}

/// Refuses a pod's own container that has more than it may, or that would undo what the sidecar needs.
pub(super) fn check_own_container(found: &Value, wanted: &Value) -> Result<(), Refusal> {
    let at = |field: &str| format!("container \"{CONTAINER}\" of the pod: {field}");
    let fields = found.as_object().into_iter().flatten();
    let mut others = fields.filter(|(name, value)| !is_empty(value) && !OWN_FIELDS.contains(&name.as_str()));
    if let Some((name, _)) = others.next() {
        let detail = format!("is the sidecar's own; a pod may set {}; or rename the container", OWN_FIELDS.join(", "));
        return Err(refused(at(&shown(name)), detail));
    }
    if !has_no_image(found) && found["image"] != wanted["image"] {
        let detail =
            format!("must be \"{AUTOMATIC}\" or absent: the image is that of the LakeIngest; or rename the container");
        return Err(refused(at("image"), detail));
    }
    if !is_empty(&found["restartPolicy"]) && found["restartPolicy"] != wanted["restartPolicy"] {
        return Err(refused(at("restartPolicy"), "must be Always or absent: the container is a sidecar"));
    }
    for (list, key) in [("env", "name"), ("volumeMounts", "mountPath")] {
        // Which keys are lent, and by whom, a pod may say itself.
        let is_aws = |item: &Value| item[key].as_str().is_some_and(|name| name.starts_with("AWS_"));
        // The API server has mounted the pod's token there before any webhook is asked; it is put out of reach again.
        let is_token = |item: &Value| item[key] == TOKEN_PATH;
        let is_kept = |own: &Value| is_aws(own) || is_token(own);
        let is_ours = |own: &&Value| !is_kept(own) && items(&wanted[list]).any(|ours| ours[key] == own[key]);
        if let Some(own) = items(&found[list]).find(is_ours) {
            let name = shown(own[key].as_str().unwrap_or_default());
            return Err(refused(at(list), format!("\"{name}\" is the sidecar's own; take it out")));
        }
    }
    Ok(())
}

/// Whether a container leaves its image to the LakeIngest.
pub(super) fn has_no_image(container: &Value) -> bool {
    matches!(container["image"].as_str(), None | Some("" | AUTOMATIC))
}

/// Whether a value says nothing: the API server takes them for absent.
pub(super) fn is_empty(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests;
