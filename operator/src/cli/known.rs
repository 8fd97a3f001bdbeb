//! What the command line judges pods by: LakeIngests and labels of namespaces, of files and of the cluster, and which images
//! a sidecar may have.
//!
//! Owns: putting them together into the [`Admission`] that the webhook has. What a file has wins over the cluster's: it is
//! about to be applied. Does not own: judging.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lakeingest_crds::lakeingest::ImagePolicy;

use crate::admit::{Admission, Waits};
use crate::controller::{ContextNames, build, validate};
use crate::index::{ConfigMapMeta, Found, Index};
use crate::names::config_map;
use crate::namespaces::{Facts, Namespaces};

use super::cluster::{Cluster, ClusterError};
use super::objects::Object;

/// The image of the sidecar that the chart of this version names.
const SIDECAR_IMAGE: &str = concat!("lakeingest/sidecar:", env!("CARGO_PKG_VERSION"));
/// Its repository.
const SIDECAR_REPOSITORY: &str = "lakeingest/sidecar";

/// Which images a sidecar may have, where no operator tells.
#[derive(Args, Clone, Debug, Default)]
pub struct ImageArguments {
    /// The image of sidecars whose LakeIngest names none; otherwise the operator's
    #[arg(long, value_name = "IMAGE")]
    pub sidecar_image: Option<String>,

    /// A repository whose images a LakeIngest may name, once for each; otherwise the operator's
    #[arg(long = "allowed-sidecar-images", value_name = "REPOSITORY")]
    pub allowed_sidecar_images: Vec<String>,
}

impl ImageArguments {
    /// What was said, or what the operator says, or what the chart of this version says.
    pub(super) fn policy(&self, operators: Option<ImagePolicy>) -> ImagePolicy {
        let otherwise = operators.unwrap_or_else(|| ImagePolicy {
            default_image: SIDECAR_IMAGE.to_owned(),
            allowed_repositories: vec![SIDECAR_REPOSITORY.to_owned()],
        });
        let allowed = match self.allowed_sidecar_images.as_slice() {
            [] => otherwise.allowed_repositories,
            allowed => allowed.to_vec(),
        };
        let default_image = self.sidecar_image.clone().unwrap_or(otherwise.default_image);
        ImagePolicy { default_image, allowed_repositories: allowed }
    }
}

/// LakeIngests, by namespace and name, each with what is known of its ConfigMap.
#[derive(Debug, Default)]
pub(super) struct Known {
    lake_ingests: BTreeMap<(String, String), Found>,
    config_maps: Vec<ConfigMapMeta>,
    /// Those of files have no ConfigMap yet: the operator renders it once they are applied.
    to_be_rendered: Vec<(String, String)>,
    /// What is known of namespaces.
    namespaces: BTreeMap<String, Facts>,
}

impl Known {
    /// A LakeIngest or a namespace of a file; false if the object is neither.
    pub(super) fn add(&mut self, object: &Object<'_>, default_namespace: &str) -> bool {
        if object.is("", "Namespace") {
            let texts =
                |field: &str| serde_json::from_value(object.value["metadata"][field].clone()).unwrap_or_default();
            self.namespaces.insert(object.name(), Facts::of(&texts("labels"), &texts("annotations")));
            return true;
        }
        if !object.is("lakeingest.io", "LakeIngest") {
            return false;
        }
        let mut value = object.value.clone();
        if object.namespace.is_none() {
            value["metadata"]["namespace"] = default_namespace.into();
        }
        let found: Result<Found, _> = serde_json::from_value(value);
        // One without readable metadata is none that a pod could name.
        if let Ok(found) = found {
            let key = (found.namespace().unwrap_or_default(), found.name_any());
            self.to_be_rendered.push(key.clone());
            self.lake_ingests.insert(key, found);
        }
        true
    }

    /// Whether a namespace asks for sidecars in its pods. One that neither a file nor the cluster has does not.
    ///
    /// # Errors
    /// The API server does not give it.
    pub(super) async fn ask_namespace(&mut self, cluster: &Cluster, namespace: &str) -> Result<bool, ClusterError> {
        if !self.namespaces.contains_key(namespace) {
            let all: Api<Namespace> = Api::all(cluster.client.clone());
            let what = format!("namespace {namespace}");
            let found = all.get_metadata_opt(namespace).await.map_err(ClusterError::ask(what))?;
            let facts = found.map(|found| Facts::of(found.labels(), found.annotations())).unwrap_or_default();
            self.namespaces.insert(namespace.to_owned(), facts);
        }
        Ok(self.namespaces.get(namespace).is_some_and(|facts| facts.label.is_some()))
    }

    /// The LakeIngests of a namespace of the cluster, with their ConfigMaps.
    ///
    /// # Errors
    /// The API server does not give them.
    pub(super) async fn ask(&mut self, cluster: &Cluster, namespace: &str) -> Result<(), ClusterError> {
        let all: Api<Found> = Api::namespaced(cluster.client.clone(), namespace);
        let what = format!("the LakeIngests of namespace {namespace}");
        let found = all.list(&ListParams::default()).await.map_err(ClusterError::ask(what))?;
        let config_maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
        for found in found.items {
            let key = (namespace.to_owned(), found.name_any());
            if self.lake_ingests.contains_key(&key) {
                continue;
            }
            let name = config_map(&key.1);
            let what = format!("ConfigMap {namespace}/{name}");
            let config_map = config_maps.get_metadata_opt(&name).await.map_err(ClusterError::ask(what))?;
            self.config_maps.extend(config_map);
            self.lake_ingests.insert(key, found);
        }
        Ok(())
    }

    /// What judges pods by all of this as the webhook would.
    pub(super) fn admission(self, images: ImagePolicy) -> Admission {
        // The cluster's identity is in what sidecars are told, not in what pods get.
        let names = ContextNames { cluster_id: String::new(), images };
        let Self { lake_ingests, mut config_maps, to_be_rendered, namespaces } = self;
        let files = to_be_rendered.iter().filter_map(|key| lake_ingests.get(key)?.0.as_ref().ok());
        let rendered = files.filter_map(|ingest| Some(build(&validate(ingest, &names).ok()?, None).config_map));
        config_maps.extend(rendered.map(|config_map| ConfigMapMeta {
            metadata: config_map.metadata,
            types: None,
            _phantom: std::marker::PhantomData,
        }));
        let index = Index::of(lake_ingests.into_values().collect(), config_maps);
        let namespaces = Namespaces::of(namespaces);
        Admission { index, namespaces, names: Arc::new(names), waits: Waits::none() }
    }
}
