//! The names that users and sidecars know: annotations, labels, volumes, paths.
//!
//! Owns: the constants of the pod's contract, version 1. A sidecar of the next version runs in a pod that has them, so
//! none of them changes without a new version of the contract.
//! Does not own: what is done with them.

/// Version of the pod's contract, as it is in the status annotation.
pub const CONTRACT_VERSION: u32 = 1;

/// Annotation of a pod: the LakeIngest that it asks for; `true`: the namespace's only one; `false`: none. Label of a
/// namespace: the same for every pod of it that says nothing itself.
pub const INJECT: &str = "lakeingest.io/inject";
/// Annotation of a pod: `allow` lets it run without the sidecar rather than not at all.
pub const ON_ERROR: &str = "lakeingest.io/on-error";
/// Annotation of a pod: what its sidecar asks for and may take, as JSON, value by value over the LakeIngest's.
pub const RESOURCES: &str = "lakeingest.io/resources";
/// Annotation of a pod: names of its containers, with commas between them, that get [`URL_VARIABLE`].
pub const CONTAINERS: &str = "lakeingest.io/containers";
/// Annotation of a pod: the sidecar's port for the application, instead of the LakeIngest's.
pub const PORT_ANNOTATION: &str = "lakeingest.io/port";
/// Annotation of a pod: the sidecar's port of probes and metrics, instead of the LakeIngest's.
pub const HEALTH_PORT_ANNOTATION: &str = "lakeingest.io/health-port";
/// Annotation of a pod, written at injection: what was injected, as JSON.
pub const STATUS: &str = "lakeingest.io/status";
/// Label of a pod, written at injection: the LakeIngest that its sidecar is wired from.
pub const INJECTED_BY: &str = "lakeingest.io/injected-by";
/// Annotation of a pod, written at injection: its grace period before ours was added. Unit: seconds.
pub const ORIGINAL_GRACE: &str = "lakeingest.io/original-termination-grace-period-seconds";
/// Annotation of a pod, written at injection: `spec.resources` before ours were added, as JSON.
pub const ORIGINAL_RESOURCES: &str = "lakeingest.io/original-resources";
/// Annotation of a namespace in which each pod is given a user of its own, and no other is admitted.
/// Source: <https://docs.redhat.com/en/documentation/openshift_container_platform/>, security context constraints.
pub const UID_RANGE: &str = "openshift.io/sa.scc.uid-range";
/// Annotation of a pod that the cluster autoscaler reads: volumes that do not keep it from removing the node. Ours are
/// drained when a pod is evicted.
/// Source: <https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md>.
pub const SAFE_TO_EVICT_VOLUMES: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
/// Annotation of a ConfigMap: the generation of the LakeIngest that it was rendered from.
pub const GENERATION: &str = "lakeingest.io/generation";

/// Label of a preflight's Job and of its pod: the LakeIngest whose lake is tried.
pub const PREFLIGHT: &str = "lakeingest.io/preflight";
/// Annotation of a preflight's pod: what is tried, as a hash.
pub const TRIED: &str = "lakeingest.io/tried";
/// Name of a preflight's container.
pub const PREFLIGHT_CONTAINER: &str = "preflight";

/// Annotation of the pod by which the API server shows a static pod of a node. Source: `core/v1`, MirrorPodAnnotationKey.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// Label of what the operator has made, with the value [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The operator, as the value of labels and as the field manager of server-side apply.
pub const MANAGER: &str = "lakeingest-operator";

/// Name of the injected container.
pub const CONTAINER: &str = "lakeingest";
/// Its program, found through the image's `PATH`.
pub const PROGRAM: &str = "lakeingest-sidecar";
/// Variable in each application container: where the sidecar is.
pub const URL_VARIABLE: &str = "LAKE_INGEST_URL";
/// Variable of the sidecar: the pod's whole grace period, with ours added. Unit: seconds.
pub const GRACE_VARIABLE: &str = "LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS";
/// Variable of the sidecar: the application's port. This and the ones below are what the pod was made with: they win over
/// the configuration, which may have changed when the sidecar is started again.
pub const PORT_VARIABLE: &str = "LAKEINGEST_PORT";
/// Variable of the sidecar: the port of probes and metrics.
pub const HEALTH_PORT_VARIABLE: &str = "LAKEINGEST_HEALTH_PORT";
/// Variable of the sidecar: size of the journal's volume.
pub const JOURNAL_SIZE_VARIABLE: &str = "LAKEINGEST_JOURNAL_SIZE_LIMIT";
/// Variable of the sidecar: size of the scratch volume.
pub const SCRATCH_SIZE_VARIABLE: &str = "LAKEINGEST_SCRATCH_SIZE_LIMIT";
/// Variable of the sidecar: where its keys come from, `files` or `environment`.
pub const CREDENTIALS_VARIABLE: &str = "LAKEINGEST_CREDENTIALS";

/// Name of the port of probes and metrics.
pub const HEALTH_PORT: &str = "lake-health";

/// The journal's volume.
pub const JOURNAL_VOLUME: &str = "lakeingest-journal";
/// Where it is mounted.
pub const JOURNAL_PATH: &str = "/var/lib/lakeingest/journal";
/// The scratch volume.
pub const SCRATCH_VOLUME: &str = "lakeingest-scratch";
/// Where it is mounted.
pub const SCRATCH_PATH: &str = "/var/lib/lakeingest/scratch";
/// The volume of the configuration.
pub const CONFIG_VOLUME: &str = "lakeingest-config";
/// Where it is mounted.
pub const CONFIG_PATH: &str = "/etc/lakeingest/config";
/// The file of the configuration, and its key in the ConfigMap.
pub const CONFIG_FILE: &str = "config.yaml";
/// The file of authorities beside it, where a LakeIngest names some.
pub const CA_FILE: &str = "ca.crt";
/// The volume of the credentials.
pub const CREDENTIALS_VOLUME: &str = "lakeingest-credentials";
/// Where it is mounted.
pub const CREDENTIALS_PATH: &str = "/etc/lakeingest/credentials";
/// The keys of the credentials' Secret, each a file.
pub const CREDENTIALS_KEYS: [&str; 3] = ["accessKeyId", "secretAccessKey", "sessionToken"];

/// The volume of the token that is exchanged for keys.
pub const IDENTITY_VOLUME: &str = "lakeingest-token";
/// Where it is mounted.
pub const IDENTITY_PATH: &str = "/etc/lakeingest/token";
/// The file of the token.
pub const IDENTITY_FILE: &str = "token";
/// Variable of the sidecar: the role whose keys are lent. Source: this and the next one, the AWS SDKs and Tools Reference
/// Guide, "Assume role credential provider".
pub const ROLE_VARIABLE: &str = "AWS_ROLE_ARN";
/// Variable of the sidecar: the file of the token.
pub const TOKEN_FILE_VARIABLE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// Where the API server mounts a pod's token into each container that has nothing there.
/// Source: the admission plugin ServiceAccount, Kubernetes 1.33.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The folder of the scratch volume that is there instead, empty.
pub const NO_TOKEN: &str = "no-token";

/// The user and group of the sidecar's image.
pub const USER_ID: u32 = 65_532;

/// Name of the ConfigMap of a LakeIngest.
pub fn config_map(ingest: &str) -> String {
    format!("lakeingest-{ingest}")
}

/// Longest name of a Job, which is a label of its pod as well. Unit: bytes.
const JOB_NAME_BYTES_MAX: usize = 63;

/// Name of the Job that tries a lake; of a long name of a LakeIngest as much as there is room for, since what is tried tells
/// two of them apart as well.
pub fn preflight_job(ingest: &str, tried: &str) -> String {
    let room = JOB_NAME_BYTES_MAX.saturating_sub("lakeingest-preflight--".len() + tried.len());
    let ingest = &ingest[..ingest.floor_char_boundary(room)];
    format!("lakeingest-preflight-{}-{tried}", ingest.trim_end_matches('-'))
}

/// Longest part of a stranger's text that is repeated. Unit: characters.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// A stranger's text for a message or a log line: short, and without line ends and control characters, so that it cannot
/// pass for something that we say.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// A stranger's sentence for a message: as [`shown`], longer, and with its quotes as they are, since it is put into none.
pub fn said(text: &str, characters_max: usize) -> String {
    let mut said = String::new();
    for character in text.chars().take(characters_max) {
        match character {
            '"' | '\'' | '\\' => said.push(character),
            other => said.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(characters_max).is_some() {
        said.push('…');
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_fits_a_label_however_long_the_lake_ingests_is() {
        assert_eq!(preflight_job("events", "0123456789ab"), "lakeingest-preflight-events-0123456789ab");
        let longest = preflight_job(&"e-".repeat(20), "0123456789ab");
        assert!(longest.len() <= JOB_NAME_BYTES_MAX && longest.ends_with("e-0123456789ab"), "{longest}");
    }

    #[test]
    fn a_strangers_text_is_cut_and_cannot_begin_a_line() {
        assert_eq!(shown("events"), "events");
        assert_eq!(shown("x\n2026 ERROR \u{1b}[31m"), "x\\n2026 ERROR \\u{1b}[31m");
        assert_eq!(shown(&"é".repeat(70_000)), format!("{}…", "é".repeat(64)));
        assert_eq!(said("it's \"so\"\n", 100), "it's \"so\"\\n");
        assert_eq!(said("abc", 2), "ab…");
    }
}
