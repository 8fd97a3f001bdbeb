//! The sidecar's container and its volumes, as version 1 of the pod's contract has them.
//!
//! Owns: their shape, and what of it whoever else reaches the lake has as well. Does not own: where they go in a pod (`inject`).

use lakeingest_crds::lakeingest::ComputeResources;
use serde_json::{Map, Value, json};

use super::amounts::Amount;
use crate::controller::ValidatedIngest;
use crate::names::{
    CA_FILE, CONFIG_FILE, CONFIG_PATH, CONFIG_VOLUME, CONTAINER, CREDENTIALS_KEYS, CREDENTIALS_PATH,
    CREDENTIALS_VARIABLE, CREDENTIALS_VOLUME, GRACE_VARIABLE, HEALTH_PORT, HEALTH_PORT_VARIABLE, IDENTITY_FILE,
    IDENTITY_PATH, IDENTITY_VOLUME, JOURNAL_PATH, JOURNAL_SIZE_VARIABLE, JOURNAL_VOLUME, NO_TOKEN, PORT_VARIABLE,
    PROGRAM, ROLE_VARIABLE, SCRATCH_PATH, SCRATCH_SIZE_VARIABLE, SCRATCH_VOLUME, TOKEN_FILE_VARIABLE, TOKEN_PATH,
    USER_ID, config_map,
};

/// What the sidecar's log may take of the node's disk beside its volumes. Unit: bytes.
/// Derivation: the kubelet rotates a container's log at 10 MiB and keeps five files.
const LOG_ALLOWANCE_BYTES: u64 = 50 << 20;

/// The limit of processor time where every other container of the pod has one, and nobody has named ours.
/// Derivation: a quarter of a core encodes a few megabytes a second; a pod that sends more says so.
const CPU_LIMIT: Amount = Amount::of_millicores(250);

/// How long the sidecar may take to open its journal before it is started again. Unit: seconds.
/// Derivation: a journal of a terabyte at the 2 GB/s of a fast disk; one of the default size is open in a second.
const START_SECONDS_MAX: u32 = 600;

/// How long a token is good. The kubelet renews it after four fifths of that. Unit: seconds.
/// Source: the default of `ServiceAccountTokenProjection`, Kubernetes 1.33; the least is 600.
const TOKEN_SECONDS: u32 = 3_600;

/// What of the pod the container depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    /// The pod's grace period with ours added. Unit: seconds.
    pub(super) grace_seconds: u64,
    /// Whether some container has a limit of ephemeral storage. The kubelet then adds up the limits that there are and
    /// evicts the pod at their sum, so ours must be among them.
    pub(super) has_ephemeral_limit: bool,
    /// Whether every other container has a limit of processor time: a quota of the namespace may ask for one.
    pub(super) has_cpu_limits: bool,
    /// Whether every other container is sure of what it may take, so that the pod is of the class Guaranteed without ours.
    pub(super) is_guaranteed: bool,
}

/// The container.
pub(super) fn container(ingest: &ValidatedIngest, facts: PodFacts) -> Value {
    let server = &ingest.spec.config.server;
    let mut mounts = vec![
        json!({"name": JOURNAL_VOLUME, "mountPath": JOURNAL_PATH}),
        json!({"name": SCRATCH_VOLUME, "mountPath": SCRATCH_PATH}),
        config_mount(),
        // An empty folder where the API server would else mount the pod's token: the sidecar speaks to no API server.
        json!({"name": SCRATCH_VOLUME, "mountPath": TOKEN_PATH, "subPath": NO_TOKEN, "readOnly": true}),
    ];
    mounts.extend(key_mounts(ingest));
    json!({
        "name": CONTAINER,
        "image": ingest.spec.image,
        "args": ["serve"],
        // A native sidecar: it starts before the application, ends after it, and keeps no Job from completing.
        "restartPolicy": "Always",
        "ports": [{"name": HEALTH_PORT, "containerPort": server.health_port, "protocol": "TCP"}],
        "env": environment(ingest, facts),
        "resources": resources(ingest, facts),
        "volumeMounts": mounts,
        // By exec of its own binary: the application's port listens on loopback alone, which the kubelet does not reach.
        "startupProbe": {
            "exec": {"command": [PROGRAM, "started"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": START_SECONDS_MAX,
        },
        "lifecycle": {"preStop": {"exec": {"command": [PROGRAM, "drain"]}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security_context(ingest),
    })
}

/// Where the configuration is mounted.
pub(crate) fn config_mount() -> Value {
    json!({"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": true})
}

/// Where the keys, or what is exchanged for them, are mounted.
pub(crate) fn key_mounts(ingest: &ValidatedIngest) -> Vec<Value> {
    let mut mounts = Vec::new();
    if ingest.spec.secret_name.is_some() {
        mounts.push(json!({"name": CREDENTIALS_VOLUME, "mountPath": CREDENTIALS_PATH, "readOnly": true}));
    }
    if ingest.spec.workload_identity.is_some() {
        mounts.push(json!({"name": IDENTITY_VOLUME, "mountPath": IDENTITY_PATH, "readOnly": true}));
    }
    mounts
}

/// Every rule of the Pod Security Standard "restricted". Where the namespace gives each pod a user, it refuses any other.
pub(crate) fn security_context(ingest: &ValidatedIngest) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !ingest.assigns_users {
        context["runAsUser"] = json!(USER_ID);
        context["runAsGroup"] = json!(USER_ID);
    }
    context
}

fn environment(ingest: &ValidatedIngest, facts: PodFacts) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: String| json!({"name": name, "value": value});
    let config = &ingest.spec.config;
    let mut variables = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("NODE_NAME", "spec.nodeName"),
        value(GRACE_VARIABLE, facts.grace_seconds.to_string()),
        value(PORT_VARIABLE, config.server.port.to_string()),
        value(HEALTH_PORT_VARIABLE, config.server.health_port.to_string()),
        value(JOURNAL_SIZE_VARIABLE, config.buffer.size_limit.to_string()),
        value(SCRATCH_SIZE_VARIABLE, config.buffer.scratch_size_limit.to_string()),
    ];
    variables.extend(key_variables(ingest));
    Value::from(variables)
}

/// Variables that tell where the keys are.
pub(crate) fn key_variables(ingest: &ValidatedIngest) -> Vec<Value> {
    let value = |name: &str, value: String| json!({"name": name, "value": value});
    let credentials = if ingest.spec.secret_name.is_some() { "files" } else { "environment" };
    let mut variables = vec![value(CREDENTIALS_VARIABLE, credentials.to_owned())];
    if let Some(identity) = &ingest.spec.workload_identity {
        variables.push(value(ROLE_VARIABLE, identity.aws.role_arn.clone()));
        variables.push(value(TOKEN_FILE_VARIABLE, format!("{IDENTITY_PATH}/{IDENTITY_FILE}")));
    }
    variables
}

fn resources(ingest: &ValidatedIngest, facts: PodFacts) -> Value {
    let buffer = &ingest.spec.config.buffer;
    let ephemeral = buffer.size_limit.bytes() + buffer.scratch_size_limit.bytes() + LOG_ALLOWANCE_BYTES;
    let ephemeral = json!(lakeingest_crds::Quantity::from_bytes(ephemeral).to_string());
    let mut requests = compute(&ingest.spec.resources.requests);
    let mut limits = compute(&ingest.spec.resources.limits);
    if facts.has_cpu_limits && !limits.contains_key("cpu") {
        let request = requests.get("cpu").and_then(Amount::of);
        let limit = request.unwrap_or(CPU_LIMIT).max(CPU_LIMIT);
        limits.insert("cpu".to_owned(), json!(limit.to_string()));
    }
    if facts.is_guaranteed {
        requests.extend(limits.clone());
    }
    requests.insert("ephemeral-storage".to_owned(), ephemeral.clone());
    if facts.has_ephemeral_limit {
        limits.insert("ephemeral-storage".to_owned(), ephemeral);
    }
    json!({"requests": requests, "limits": limits})
}

fn compute(resources: &ComputeResources) -> Map<String, Value> {
    let values = [("cpu", &resources.cpu), ("memory", &resources.memory)].into_iter();
    values.filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_deref()?)))).collect()
}

/// The volumes that the container mounts.
pub(super) fn volumes(ingest: &ValidatedIngest) -> Vec<Value> {
    let buffer = &ingest.spec.config.buffer;
    let mut volumes = vec![
        json!({"name": JOURNAL_VOLUME, "emptyDir": {"sizeLimit": buffer.size_limit.to_string()}}),
        json!({"name": SCRATCH_VOLUME, "emptyDir": {"sizeLimit": buffer.scratch_size_limit.to_string()}}),
    ];
    volumes.extend(lake_volumes(ingest));
    volumes
}

/// The volumes that say where the lake is and have its keys.
pub(crate) fn lake_volumes(ingest: &ValidatedIngest) -> Vec<Value> {
    let config = json!({"name": config_map(&ingest.name), "items": [{"key": CONFIG_FILE, "path": CONFIG_FILE}]});
    let mut sources = vec![json!({"configMap": config})];
    if let Some(bundle) = &ingest.spec.ca_bundle {
        // Optional, as the Secret is: the file appears once the ConfigMap does.
        let items = json!([{"key": bundle.key, "path": CA_FILE}]);
        sources.push(json!({"configMap": {"name": bundle.name, "optional": true, "items": items}}));
    }
    let mut volumes = vec![json!({"name": CONFIG_VOLUME, "projected": {"sources": sources}})];
    if let Some(secret) = &ingest.spec.secret_name {
        // Optional: a pod starts without its Secret and journals; the files appear once the Secret does.
        let items: Vec<Value> = CREDENTIALS_KEYS.iter().map(|key| json!({"key": key, "path": key})).collect();
        let secret = json!({"name": secret, "optional": true, "items": items});
        volumes.push(json!({"name": CREDENTIALS_VOLUME, "projected": {"sources": [{"secret": secret}]}}));
    }
    if let Some(identity) = &ingest.spec.workload_identity {
        let token = json!({
            "audience": identity.audience, "expirationSeconds": TOKEN_SECONDS, "path": IDENTITY_FILE,
        });
        volumes.push(json!({"name": IDENTITY_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}));
    }
    volumes
}
