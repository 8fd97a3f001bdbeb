//! What is kept of the pods that have a sidecar, and of those that try a lake.
//!
//! Owns: pruning them, and what is read of what is left. Does not own: watching them.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Found, kept};
use crate::events::reference_of;
use crate::names::{CONTAINER, HEALTH_PORT, INJECTED_BY, PREFLIGHT, PREFLIGHT_CONTAINER};

/// A pod that has a sidecar and has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarPod {
    /// The pod's uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The LakeIngest that its sidecar is wired from.
    pub ingest: ObjectRef<Found>,
    /// What has made it, as something that an Event is about.
    pub owner: Option<ObjectReference>,
    /// The image of its sidecar.
    pub image: String,
    /// Whether its sidecar has started.
    pub is_ready: bool,
    /// Where its sidecar says how it is; none while the pod has no address.
    pub address: Option<SocketAddr>,
}

impl SidecarPod {
    /// The pod itself, as something that an Event is about.
    pub fn reference(&self) -> ObjectReference {
        reference_of_pod(&self.namespace, &self.name, Some(&self.uid))
    }

    /// None for a pod that has ended.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        if has_ended(pod) {
            return None;
        }
        let (sidecar, namespace) = (sidecar_of(pod)?, pod.namespace()?);
        let port = sidecar.ports.iter().flatten().find(|port| port.name.as_deref() == Some(HEALTH_PORT));
        let port = port.and_then(|port| u16::try_from(port.container_port).ok());
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse::<IpAddr>().ok());
        Some(Self {
            uid: pod.uid()?,
            owner: controller_of(pod.owner_references()).map(|owner| reference_of(owner, &namespace)),
            namespace,
            name: pod.name_any(),
            ingest: ingest_of(pod)?,
            image: sidecar.image.clone().unwrap_or_default(),
            is_ready: has_started(pod),
            address: ip.zip(port).map(SocketAddr::from),
        })
    }
}

/// A pod, as something that an Event is about.
pub(super) fn reference_of_pod(namespace: &str, name: &str, uid: Option<&str>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    }
}

/// The LakeIngest that a pod's sidecar is wired from.
pub(super) fn ingest_of(pod: &Pod) -> Option<ObjectRef<Found>> {
    let name = pod.labels().get(INJECTED_BY)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

/// What has made a pod, if anything has: who looks at that looks for what is the matter with its pods.
pub fn controller_of(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Keeps what is counted and looked up; a cluster has many pods. One that has the label and not the sidecar loses the label, is
/// not counted, and is missing where it asks: the label is anybody's to write.
pub(super) fn prune(pod: &mut Pod) {
    let sidecar = sidecar_of(pod).map(|sidecar| Container {
        name: sidecar.name.clone(),
        image: sidecar.image.clone(),
        ports: sidecar.ports.clone(),
        ..Container::default()
    });
    kept::OF_INJECTED_POD.prune(&mut pod.metadata);
    match sidecar {
        Some(_) => pod.annotations_mut().clear(),
        None => pod.labels_mut().clear(),
    }
    pod.spec = sidecar.map(|sidecar| PodSpec { init_containers: Some(vec![sidecar]), ..PodSpec::default() });
    if let Some(status) = &mut pod.status {
        let sidecars = status.init_container_statuses.take().unwrap_or_default();
        let (phase, pod_ip) = (status.phase.take(), status.pod_ip.take());
        *status = PodStatus {
            phase,
            pod_ip,
            init_container_statuses: Some(sidecars.into_iter().filter(|status| status.name == CONTAINER).collect()),
            ..PodStatus::default()
        };
    }
}

/// Whether a pod has a container of the sidecar's name where the sidecar is.
pub fn has_sidecar(pod: &Pod) -> bool {
    sidecar_of(pod).is_some()
}

/// Keeps how the pod of a preflight is.
pub(super) fn prune_trial(pod: &mut Pod) {
    kept::OF_TRIAL.prune(&mut pod.metadata);
    pod.spec = None;
    if let Some(status) = &mut pod.status {
        let mut containers = status.container_statuses.take().unwrap_or_default();
        containers.retain(|status| status.name == PREFLIGHT_CONTAINER);
        *status = PodStatus {
            phase: status.phase.take(),
            reason: status.reason.take(),
            message: status.message.take(),
            start_time: status.start_time.take(),
            conditions: status.conditions.take(),
            container_statuses: Some(containers),
            ..PodStatus::default()
        };
    }
}

/// The LakeIngest whose lake the pod of a preflight tries.
pub fn tried_for(pod: &Pod) -> Option<ObjectRef<Found>> {
    let name = pod.labels().get(PREFLIGHT)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

fn sidecar_of(pod: &Pod) -> Option<&Container> {
    let mut containers = pod.spec.as_ref()?.init_containers.iter().flatten();
    containers.find(|container| container.name == CONTAINER)
}

pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the sidecar has opened its journal and runs.
pub(super) fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    let sidecar = statuses.into_iter().flatten().find(|status| status.name == CONTAINER);
    sidecar.is_some_and(|status| status.ready && status.started == Some(true))
}
