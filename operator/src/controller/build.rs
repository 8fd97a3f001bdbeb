//! Step three: what the cluster should hold for a LakeIngest.
//!
//! Owns: the ConfigMap, a pure function of a LakeIngest that was validated; it cannot fail (I4).
//! Does not own: writing it (`apply`).

use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use lakeingest_crds::SidecarConfig;
use lakeingest_crds::lakeingest::LakeIngest;

use super::validate::ValidatedIngest;
use crate::names::{CONFIG_FILE, GENERATION, MANAGED_BY, MANAGER, config_map};

/// What was built and is not in the cluster yet.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// What the cluster holds.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Whether anything had to be written.
    pub(super) was_changed: bool,
    /// What somebody had done to it, if that is why.
    pub(super) restored: Option<Restored>,
}

/// What somebody had done to an object that was as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whether it was deleted, and not changed.
    pub was_deleted: bool,
    /// The version at which it was last as it should be; the same for every replica.
    pub last_right: String,
}

/// What the cluster holds for a LakeIngest, before and after it was applied.
#[derive(Clone, Debug)]
pub struct Resources<State> {
    /// The configuration of its sidecars.
    pub config_map: ConfigMap,
    pub(super) state: State,
    pub(super) _state: PhantomData<State>,
}

impl Resources<Applied> {
    /// Whether anything had to be written.
    pub fn was_changed(&self) -> bool {
        self.state.was_changed
    }

    /// What somebody had done to it, if that is why it had to be written.
    pub fn restored(&self) -> Option<&Restored> {
        self.state.restored.as_ref()
    }
}

/// What the cluster should hold for a LakeIngest, whose location may be held by another one.
pub fn build(ingest: &ValidatedIngest, held_by: Option<&str>) -> Resources<Prepared> {
    Resources { config_map: sidecar_config(ingest, held_by), state: Prepared, _state: PhantomData }
}

fn sidecar_config(ingest: &ValidatedIngest, held_by: Option<&str>) -> ConfigMap {
    let mut config = SidecarConfig {
        generation: Some(ingest.generation),
        owner: Some(ingest.owner()),
        ..ingest.spec.config.clone()
    };
    config.storage.prefix_in_use_by = held_by.map(str::to_owned);
    let generation = (GENERATION.to_owned(), ingest.generation.to_string());
    let yaml = serde_yaml::to_string(&config).expect("a configuration is plain data");
    let note = format!("# Rendered from LakeIngest {}/{}. Change it there.\n", ingest.namespace, ingest.name);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map(&ingest.name)),
            namespace: Some(ingest.namespace.clone()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
            annotations: Some(BTreeMap::from([generation])),
            owner_references: Some(vec![owner_reference(ingest)]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), format!("{note}{yaml}"))])),
        ..ConfigMap::default()
    }
}

/// With it what was built for a LakeIngest goes when the LakeIngest goes.
pub fn owner_reference(ingest: &ValidatedIngest) -> OwnerReference {
    OwnerReference {
        api_version: LakeIngest::api_version(&()).into_owned(),
        kind: LakeIngest::kind(&()).into_owned(),
        name: ingest.name.clone(),
        uid: ingest.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
