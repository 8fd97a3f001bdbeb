//! What the operator is told.
//!
//! Owns: the command line of `run`. Does not own: what comes of it (`run`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lakeingest_crds::Seconds;
use lakeingest_crds::lakeingest::ImagePolicy;

use crate::certs::Lives;

/// Who puts the sidecar into pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Injection {
    /// The operator, which the API server asks
    #[default]
    Webhook,
    /// The API server itself, by a policy that the chart has brought; the operator serves no webhook
    Policy,
}

/// `lakeingest-operator run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Who puts the sidecar into pods
    #[arg(long, value_enum, default_value_t)]
    pub injection: Injection,

    /// Port of the webhook, over TLS
    #[arg(long, default_value_t = 9443)]
    pub webhook_port: u16,

    /// Port of probes and metrics
    #[arg(long, default_value_t = 8080)]
    pub health_port: u16,

    /// The namespace that the operator runs in
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// The pod that the operator runs in, for the Events that it writes
    #[arg(long, env = "POD_NAME", default_value = "lakeingest-operator")]
    pub pod_name: String,

    /// The Service through which the API server reaches the webhook
    #[arg(long, value_name = "NAME", default_value = "lakeingest-webhook")]
    pub webhook_service: String,

    /// The MutatingWebhookConfiguration into which the authority's certificate is put
    #[arg(long, value_name = "NAME", default_value = "lakeingest")]
    pub webhook_configuration: String,

    /// The Secret of the operator's namespace that holds the authorities; made if it is missing
    #[arg(long, value_name = "NAME", default_value = "lakeingest-webhook-ca")]
    pub ca_secret: String,

    /// The Lease of the operator's namespace by which one replica leads; made if it is missing
    #[arg(long, value_name = "NAME", default_value = "lakeingest-leader")]
    pub lease: String,

    /// A folder with tls.crt and tls.key that somebody else keeps, in place of authorities of the operator's own
    #[arg(long, value_name = "FOLDER")]
    pub certificate_files: Option<PathBuf>,

    /// How long an authority lives, at least 6s; another one replaces it after two thirds
    #[arg(long, value_name = "DURATION", default_value = "8760h")]
    pub authority_life: Seconds,

    /// How long a certificate lives, at least 2s; another one replaces it after two thirds
    #[arg(long, value_name = "DURATION", default_value = "168h")]
    pub certificate_life: Seconds,

    /// How long a pod that asks may run without its sidecar before it is evicted, so that another comes in its place; none is
    /// ever evicted without this
    #[arg(long, value_name = "DURATION")]
    pub evict_after: Option<Seconds>,

    /// The image of sidecars whose LakeIngest names none
    #[arg(long, value_name = "IMAGE")]
    pub sidecar_image: String,

    /// A repository whose images a LakeIngest may name; once for each
    #[arg(long = "allowed-sidecar-images", value_name = "REPOSITORY")]
    pub allowed_sidecar_images: Vec<String>,

    /// A namespace in which the operator may try lakes by Jobs of its own, or * for all; once for each
    #[arg(long = "preflight-namespaces", value_name = "NAMESPACE")]
    pub preflight_namespaces: Vec<String>,
}

impl RunArguments {
    /// How long certificates live.
    pub fn lives(&self) -> Lives {
        Lives::new(self.authority_life, self.certificate_life)
    }

    /// Which images a sidecar may have.
    pub fn images(&self) -> ImagePolicy {
        ImagePolicy {
            default_image: self.sidecar_image.clone(),
            allowed_repositories: self.allowed_sidecar_images.clone(),
        }
    }
}
