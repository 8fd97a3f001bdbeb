//! The sidecar into a pod: one pure function.
//!
//! Owns: [`inject`], which is the same for the webhook and for whoever asks what it would do. Upholds I4 (pure), I7 and
//! I10: it works on the pod's raw JSON, adds and never removes, and a second run adds nothing.
//! Does not own: which LakeIngest a pod asks for (`admit`), what of it the pod wants otherwise (`wishes`), the container's
//! shape (`container`).

mod amounts;
pub(crate) mod container;
mod patch;
mod qos;
mod wishes;

use lakeingest_crds::Quantity;
use serde_json::{Value, json};

use crate::controller::ValidatedIngest;
use crate::names::{
    CONTAINER, CONTAINERS, CONTRACT_VERSION, GRACE_VARIABLE, HEALTH_PORT_ANNOTATION, INJECTED_BY, JOURNAL_VOLUME,
    MIRROR_POD, ORIGINAL_GRACE, PORT_ANNOTATION, SAFE_TO_EVICT_VOLUMES, SCRATCH_VOLUME, STATUS, TOKEN_PATH,
    URL_VARIABLE, shown,
};
use container::{PodFacts, container, volumes};
use patch::{Patch, Step};
use qos::{is_guaranteed, raise_pod_resources};
use wishes::{Wishes, check_own_container, has_no_image, is_empty, own_container};

/// A pod's grace period when it names none. Unit: seconds.
/// Source: `terminationGracePeriodSeconds` of `PodSpec`, Kubernetes 1.33.
const DEFAULT_GRACE_SECONDS: u64 = 30;

/// The system that has no sidecar, as pods name it.
const WINDOWS: &str = "windows";

/// The label of a node's system. Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-os>.
const OS_LABEL: &str = "kubernetes.io/os";

/// The service account of a pod that names none. Source: the admission plugin ServiceAccount, Kubernetes 1.33.
const DEFAULT_ACCOUNT: &str = "default";

/// Containers through which all of a pod's traffic goes. Where one is a native sidecar, ours comes right after it, so
/// that it starts with a network and ends before the network does.
const MESH_PROXIES: [&str; 3] = ["istio-proxy", "linkerd-proxy", "kuma-sidecar"];

/// Longest warning that the API server passes on whole. Unit: characters.
/// Source: `AdmissionResponse.warnings`, admission.k8s.io/v1.
const WARNING_LENGTH_MAX: usize = 120;

/// What is done to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The operations of a JSON Patch; empty if the pod has everything already.
    pub patch: Vec<Value>,
    /// What the one who creates the pod should know.
    pub warnings: Vec<String>,
    /// The pod with the patch applied.
    pub pod: Value,
}

/// Why a pod cannot have a sidecar, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is in the node's network, where the port would be the node's.
    #[error(
        "the pod uses the node's network (hostNetwork: true), where localhost is the node's; take hostNetwork away"
    )]
    HostNetwork,
    /// It is what the API server shows of a pod that a kubelet runs from a file.
    #[error("the pod is a static one, which the kubelet runs from a file of its node; let a DaemonSet run it")]
    StaticPod,
    /// There is no sidecar for its operating system.
    #[error("the pod runs on Windows (os.name, or nodeSelector); the sidecar runs on Linux alone")]
    Windows,
    /// It has a container of the sidecar's name that is not the sidecar.
    #[error(
        "the pod has a container named \"lakeingest\", which is the sidecar's name; rename it, or, to have fields of the sidecar your own way, make it an init container without command and args; or, where the pod was copied with its sidecar, take that out of it"
    )]
    ForeignContainer,
    /// It has a volume of one of the sidecar's names that is not what this LakeIngest's sidecar has: a volume of the
    /// user's own, or one of a pod that was copied with its sidecar.
    #[error(
        "the pod has a volume named \"{name}\" that is not the one of LakeIngest \"{ingest}\"; rename it, give it an emptyDir with a sizeLimit on the node's disk if it is for the journal or the scratch files, or take the sidecar that the pod was copied with out of it (container \"lakeingest\" and volumes \"lakeingest-…\")"
    )]
    ForeignVolume {
        /// The volume.
        name: String,
        /// The LakeIngest that the pod asks for.
        ingest: String,
    },
    /// One of its containers declares a port that the sidecar needs.
    #[error(
        "container \"{container}\" declares port {port}, which the sidecar needs; choose another with the annotation {annotation}, or with spec.sidecar.{field} of LakeIngest \"{ingest}\""
    )]
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: u64,
        /// The annotation of the pod that sets it.
        annotation: &'static str,
        /// The field of the LakeIngest that sets it.
        field: &'static str,
        /// The LakeIngest.
        ingest: String,
    },
    /// It runs as another service account than its keys are for.
    #[error(
        "the pod runs as service account \"{found}\", and the keys of LakeIngest \"{ingest}\" are for \"{wanted}\"; set serviceAccountName: {wanted} in the pod"
    )]
    ServiceAccount {
        /// The pod's.
        found: String,
        /// The one that the LakeIngest names.
        wanted: String,
        /// The LakeIngest.
        ingest: String,
    },
    /// It wants something that cannot be.
    #[error("{place}: {detail}")]
    Wish {
        /// The annotation, or the field of the pod.
        place: String,
        /// What is wrong with it, and what would be right.
        detail: String,
    },
    /// It is not a pod.
    #[error("the object has no spec.containers: it is not a pod")]
    NotAPod,
}

/// Adds the sidecar of `ingest` to a pod's raw JSON.
///
/// # Errors
/// See [`Refusal`]; nothing is half done.
pub fn inject(pod: &Value, ingest: &ValidatedIngest) -> Result<Injection, Refusal> {
    refuse_what_cannot_work(pod)?;
    let Wishes { ingest, told } = Wishes::of(pod, ingest)?;
    refuse_other_accounts(&pod["spec"], &ingest)?;
    refuse_foreigners(&pod["spec"], &ingest)?;
    refuse_taken_ports(&pod["spec"], &ingest)?;
    let mut patch = Patch::of(pod.clone());
    let mut warnings = Vec::new();
    add_grace(&mut patch, &ingest);
    add_volumes(&mut patch, &ingest);
    add_container(&mut patch, &ingest);
    raise_pod_resources(&mut patch, &container(&ingest, facts_of(&pod["spec"])))?;
    add_pull_secrets(&mut patch, &ingest);
    add_variables(&mut patch, &ingest, told.as_deref(), &mut warnings)?;
    add_marks(&mut patch, &ingest);
    warn_of_proxy(patch.document(), &mut warnings);
    for warning in &mut warnings {
        *warning = warning.chars().take(WARNING_LENGTH_MAX).collect();
    }
    let (patch, pod) = patch.finish();
    Ok(Injection { patch, warnings, pod })
}

fn refuse_what_cannot_work(pod: &Value) -> Result<(), Refusal> {
    let spec = &pod["spec"];
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err(Refusal::NotAPod);
    }
    if !pod["metadata"]["annotations"][MIRROR_POD].is_null() {
        return Err(Refusal::StaticPod);
    }
    if spec["hostNetwork"] == true {
        return Err(Refusal::HostNetwork);
    }
    if spec["os"]["name"] == WINDOWS || spec["nodeSelector"][OS_LABEL] == WINDOWS {
        return Err(Refusal::Windows);
    }
    Ok(())
}

/// A token is for the account that the pod runs as; another's would be taken for nothing.
fn refuse_other_accounts(spec: &Value, ingest: &ValidatedIngest) -> Result<(), Refusal> {
    let identity = ingest.spec.workload_identity.as_ref();
    let Some(wanted) = identity.and_then(|identity| identity.service_account_name.clone()) else { return Ok(()) };
    let named = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    match named.unwrap_or(DEFAULT_ACCOUNT) {
        found if found == wanted => Ok(()),
        found => Err(Refusal::ServiceAccount { found: shown(found), wanted, ingest: ingest.name.clone() }),
    }
}

/// What has one of our names must be what we would add, or what a pod may bring itself. No annotation is believed: a pod can
/// bring any.
fn refuse_foreigners(spec: &Value, ingest: &ValidatedIngest) -> Result<(), Refusal> {
    let wanted = container(ingest, facts_of(spec));
    let has_name = |container: &&Value| container["name"] == CONTAINER;
    let is_foreign = |found: &Value| {
        let mounts = items(&wanted["volumeMounts"]);
        let is_mounted = |mount: &Value| items(&found["volumeMounts"]).any(|found| holds(found, mount));
        let ours = items(&wanted["env"]).filter(|ours| ours["name"] != GRACE_VARIABLE);
        let is_told =
            |ours: &Value| items(&found["env"]).filter(|own| own["name"] == ours["name"]).all(|own| holds(own, ours));
        let has_ports = is_empty(&found["ports"])
            || found["ports"].as_array().is_some_and(|ports| holds(&ports[0], &wanted["ports"][0]));
        // Not the image: a policy of the cluster may have put another registry in front of it.
        found["args"] != wanted["args"]
            || !is_empty(&found["command"])
            || !mounts.into_iter().all(is_mounted)
            || !ours.into_iter().all(is_told)
            || !has_ports
    };
    if items(&spec["containers"]).any(|found| has_name(&found)) {
        return Err(Refusal::ForeignContainer);
    }
    match own_container(spec) {
        Some(own) => check_own_container(own, &wanted)?,
        None if items(&spec["initContainers"]).filter(has_name).any(is_foreign) => {
            return Err(Refusal::ForeignContainer);
        }
        None => {}
    }
    for wanted in volumes(ingest) {
        let name = wanted["name"].as_str().unwrap_or_default();
        let found = items(&spec["volumes"]).find(|volume| volume["name"] == name);
        if found.is_some_and(|found| !is_the_volume(found, &wanted)) {
            return Err(Refusal::ForeignVolume { name: name.to_owned(), ingest: ingest.name.clone() });
        }
    }
    Ok(())
}

/// Whether a volume is the one that is wanted. Its size may be written in another way: it is that of the pod.
fn is_the_volume(found: &Value, wanted: &Value) -> bool {
    let size = |volume: &Value| volume["emptyDir"]["sizeLimit"].as_str()?.parse::<Quantity>().ok();
    let is_on_disk = found["emptyDir"]["medium"].as_str().unwrap_or_default().is_empty();
    match size(wanted) {
        Some(wanted) => is_on_disk && size(found) == Some(wanted),
        None => holds(found, wanted),
    }
}

/// Whether everything of `wanted` is in `found`, which may have more: the API server fills in defaults.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| found.get(field).is_some_and(|found| holds(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| holds(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

fn refuse_taken_ports(spec: &Value, ingest: &ValidatedIngest) -> Result<(), Refusal> {
    let server = &ingest.spec.config.server;
    let needed = [
        (u64::from(server.port), PORT_ANNOTATION, "port"),
        (u64::from(server.health_port), HEALTH_PORT_ANNOTATION, "healthPort"),
    ];
    let others = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    for container in others.filter(|container| container["name"] != CONTAINER) {
        for declared in items(&container["ports"]) {
            let is_tcp = declared["protocol"].as_str().unwrap_or("TCP") == "TCP";
            let taken = needed.iter().find(|(port, ..)| is_tcp && declared["containerPort"] == *port);
            if let Some(&(port, annotation, field)) = taken {
                let container = shown(container["name"].as_str().unwrap_or_default());
                let ingest = ingest.name.clone();
                return Err(Refusal::PortTaken { container, port, annotation, field, ingest });
            }
        }
    }
    Ok(())
}

/// An application may use up its own grace period, so ours is added to it; what it was is kept.
fn add_grace(patch: &mut Patch, ingest: &ValidatedIngest) {
    let own = patch.get(&["spec".into(), "terminationGracePeriodSeconds".into()]).and_then(Value::as_u64);
    let own = own.unwrap_or(DEFAULT_GRACE_SECONDS);
    let ours = u64::from(ingest.spec.config.drain.grace_period_seconds);
    let kept = patch.get(&[ANNOTATIONS[0], ANNOTATIONS[1], ORIGINAL_GRACE.into()]).and_then(Value::as_str);
    // Only a number is one that was kept; a pod may bring anything.
    if kept.and_then(|kept| kept.parse::<u64>().ok()).is_none() {
        patch.set(&ANNOTATIONS, ORIGINAL_GRACE, json!(own.to_string()));
        // What is more is no number for the API server.
        let with_ours = own.saturating_add(ours).min(i64::MAX.unsigned_abs());
        patch.set(&["spec".into()], "terminationGracePeriodSeconds", json!(with_ours));
    }
}

fn add_volumes(patch: &mut Patch, ingest: &ValidatedIngest) {
    for volume in volumes(ingest) {
        patch.append_named(&["spec".into(), "volumes".into()], volume);
    }
}

/// Adds the container, completes the one that the pod brings itself, or puts back what another webhook has taken out of it.
fn add_container(patch: &mut Patch, ingest: &ValidatedIngest) {
    let wanted = container(ingest, facts_of(&patch.document()["spec"]));
    let list: [Step<'_>; 2] = ["spec".into(), "initContainers".into()];
    let Some(index) = patch.position(&list, CONTAINER) else {
        let after_proxy = after_mesh_proxy(patch.document());
        patch.insert_named(&list, after_proxy, wanted);
        return;
    };
    let place = [list.as_slice(), &[index.into()]].concat();
    let found = &patch.document()["spec"]["initContainers"][index];
    let unsaid: Vec<&str> = ["args", "restartPolicy"].into_iter().filter(|field| is_empty(&found[*field])).collect();
    let unsaid: Vec<&str> = unsaid.into_iter().chain(has_no_image(found).then_some("image")).collect();
    let missing = |list: &str, key: &str| -> Vec<Value> {
        let is_missing = |ours: &&Value| !items(&found[list]).any(|own| own[key] == ours[key]);
        items(&wanted[list]).filter(is_missing).cloned().collect()
    };
    let lists = [("env", missing("env", "name")), ("volumeMounts", missing("volumeMounts", "mountPath"))];
    let pull_policy =
        (has_no_image(found) && found["imagePullPolicy"] == PULLED_EACH_TIME).then(|| pull_policy(&ingest.spec.image));
    unsaid.into_iter().for_each(|field| patch.set(&place, field, wanted[field].clone()));
    if let Some(pull_policy) = pull_policy {
        patch.set(&place, "imagePullPolicy", json!(pull_policy));
    }
    for (name, missing) in lists {
        let list = [place.as_slice(), &[name.into()]].concat();
        missing.into_iter().for_each(|item| patch.append(&list, item));
    }
    keep_token_away(patch, &place, &wanted);
    patch.complete(&place, &wanted);
}

/// How the API server has the image of a container without a tag pulled, so also the one that stands for ours.
const PULLED_EACH_TIME: &str = "Always";

/// How the API server would have an image pulled that nobody has said anything of.
/// Source: <https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting>.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_fixed = name.contains('@') || name.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    if is_fixed { "IfNotPresent" } else { PULLED_EACH_TIME }
}

/// The API server mounts the pod's token into each container that has nothing at its place, also into one that the pod brings
/// itself: what is mounted there becomes the empty folder that the sidecar has.
fn keep_token_away(patch: &mut Patch, container: &[Step<'_>], wanted: &Value) {
    let list = [container, &["volumeMounts".into()]].concat();
    let is_at_place = |mount: &Value| mount["mountPath"] == TOKEN_PATH;
    let Some(ours) = items(&wanted["volumeMounts"]).find(|mount| is_at_place(mount)) else { return };
    let found = patch.get(&list).and_then(|mounts| items(mounts).position(is_at_place));
    if let Some(index) = found {
        let mount = [list.as_slice(), &[index.into()]].concat();
        for (field, value) in ours.as_object().into_iter().flatten() {
            patch.set(&mount, field, value.clone());
        }
    }
}

fn facts_of(spec: &Value) -> PodFacts {
    let all = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    let others: Vec<&Value> = all.filter(|container| container["name"] != CONTAINER).collect();
    let limits = |container: &Value, name: &str| !container["resources"]["limits"][name].is_null();
    PodFacts {
        grace_seconds: spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(DEFAULT_GRACE_SECONDS),
        has_ephemeral_limit: others.iter().any(|container| limits(container, "ephemeral-storage")),
        has_cpu_limits: others.iter().all(|container| limits(container, "cpu")),
        is_guaranteed: spec["resources"].is_null() && others.iter().all(|container| is_guaranteed(container)),
    }
}

/// A proxy that is an ordinary container ends with the application, and the network of the pod with it. One that another
/// webhook has put behind the sidecar ends before it: what starts last ends first.
fn warn_of_proxy(pod: &Value, warnings: &mut Vec<String>) {
    let names = items(&pod["spec"]["containers"]).filter_map(|container| container["name"].as_str());
    for name in names.filter(|name| MESH_PROXIES.contains(name)) {
        warnings.push(format!("{name} is no sidecar container: it may end before the last records are in the lake"));
    }
    let behind = items(&pod["spec"]["initContainers"]).skip_while(|container| container["name"] != CONTAINER);
    for name in behind.filter(|container| is_mesh_proxy(container)).filter_map(|container| container["name"].as_str()) {
        warnings.push(format!("{name} starts after the sidecar: it ends before the last records are in the lake"));
    }
}

/// Whether a container is a mesh's proxy that is a native sidecar.
fn is_mesh_proxy(container: &Value) -> bool {
    let name = container["name"].as_str().unwrap_or_default();
    MESH_PROXIES.contains(&name) && container["restartPolicy"] == "Always"
}

/// The place behind the last mesh proxy that is a native sidecar; the first place if there is none.
fn after_mesh_proxy(pod: &Value) -> usize {
    let proxies = items(&pod["spec"]["initContainers"]).enumerate().filter(|(_, container)| is_mesh_proxy(container));
    proxies.last().map_or(0, |(index, _)| index + 1)
}

/// The pod's own stay, and are tried first.
fn add_pull_secrets(patch: &mut Patch, ingest: &ValidatedIngest) {
    for name in &ingest.spec.image_pull_secrets {
        patch.append_named(&["spec".into(), "imagePullSecrets".into()], json!({"name": name}));
    }
}

/// Tells the application's containers, or those that the pod names, where the sidecar is.
fn add_variables(
    patch: &mut Patch,
    ingest: &ValidatedIngest,
    told: Option<&[String]>,
    warnings: &mut Vec<String>,
) -> Result<(), Refusal> {
    let url = format!("http://localhost:{}", ingest.spec.config.server.port);
    for (list, index) in told_containers(&patch.document()["spec"], told)? {
        let variables: [Step<'_>; 4] = ["spec".into(), list.into(), index.into(), "env".into()];
        if patch.append_named(&variables, json!({"name": URL_VARIABLE, "value": url})) {
            continue;
        }
        let container = &patch.document()["spec"][list][index];
        let is_ours =
            items(&container["env"]).any(|variable| variable["name"] == URL_VARIABLE && variable["value"] == url);
        if !is_ours {
            let name = shown(container["name"].as_str().unwrap_or_default());
            warnings.push(format!("container {name} sets {URL_VARIABLE} itself; the sidecar is at {url}"));
        }
    }
    Ok(())
}

/// Which containers are told where the sidecar is: the list that each is in, and its place there.
fn told_containers(spec: &Value, told: Option<&[String]>) -> Result<Vec<(&'static str, usize)>, Refusal> {
    let is_told = |container: &Value| match told {
        Some(names) => names.iter().any(|name| container["name"] == **name),
        None => true,
    };
    let places = |list: &'static str| {
        let all = items(&spec[list]).enumerate().filter(|(_, container)| is_told(container));
        all.map(move |(index, _)| (list, index)).collect::<Vec<_>>()
    };
    let mut found = places("containers");
    // An init container reaches the sidecar only if it starts after it, and none is meant unless it is named.
    let is_init = |place: &(&str, usize)| {
        let name = &spec[place.0][place.1]["name"];
        told.is_some() && items(&spec["containers"]).all(|container| container["name"] != *name)
    };
    for (list, index) in places("initContainers").into_iter().filter(is_init) {
        let sidecar = items(&spec[list]).position(|container| container["name"] == CONTAINER);
        if sidecar.is_some_and(|sidecar| index < sidecar) {
            let name = shown(spec[list][index]["name"].as_str().unwrap_or_default());
            let detail = format!("init container \"{name}\" starts before the sidecar and cannot reach it");
            return Err(Refusal::Wish { place: format!("annotation {CONTAINERS}"), detail });
        }
        found.push((list, index));
    }
    Ok(found)
}

/// What tells later that and how the pod was injected.
fn add_marks(patch: &mut Patch, ingest: &ValidatedIngest) {
    let volumes: Vec<Value> = volumes(ingest).into_iter().map(|volume| volume["name"].clone()).collect();
    let status = json!({
        "version": CONTRACT_VERSION,
        "lakeIngest": {"name": ingest.name, "uid": ingest.uid, "generation": ingest.generation},
        "image": ingest.spec.image,
        "container": CONTAINER,
        "volumes": volumes,
    });
    // A pod that was copied from an injected one may bring the marks of another injection.
    patch.set(&ANNOTATIONS, STATUS, json!(status.to_string()));
    patch.set(&LABELS, INJECTED_BY, json!(ingest.name));
    let listed = patch.get(&[ANNOTATIONS[0], ANNOTATIONS[1], SAFE_TO_EVICT_VOLUMES.into()]);
    let mut names: Vec<String> =
        listed.and_then(Value::as_str).unwrap_or_default().split(',').map(|name| name.trim().to_owned()).collect();
    names.retain(|name| !name.is_empty());
    for ours in [JOURNAL_VOLUME, SCRATCH_VOLUME] {
        if !names.iter().any(|name| name == ours) {
            names.push(ours.to_owned());
        }
    }
    patch.set(&ANNOTATIONS, SAFE_TO_EVICT_VOLUMES, json!(names.join(",")));
}

const ANNOTATIONS: [Step<'static>; 2] = [Step::Field("metadata"), Step::Field("annotations")];
const LABELS: [Step<'static>; 2] = [Step::Field("metadata"), Step::Field("labels")];

/// The items of a list; none if it is absent.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests;
