//! What the operator knows of the cluster without asking: LakeIngests, their ConfigMaps, the pods injected from them, those that
//! ask and were not, and those that try a lake.
//!
//! Owns: the watches, what is kept of each object (of metadata: `kept`; of pods: `pods`, `asking`), the lookups.
//! Does not own: what is done with it.
//!
//! ```text
//! LakeIngest ──> owns ConfigMap lakeingest-<name>
//!     ├─ name <── label lakeingest.io/injected-by ── Pod     (same namespace)
//!     ├─ name <── annotation lakeingest.io/inject ── Pod without a sidecar, whatever its labels
//!     └─ name <── label lakeingest.io/preflight ── Pod of a preflight
//! ```

mod asking;
mod kept;
mod namesakes;
mod pods;

pub use asking::{MissingPod, PodMeta};
pub use pods::{SidecarPod, controller_of, has_sidecar, tried_for};

use std::borrow::Cow;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
#[cfg(test)]
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use lakeingest_crds::lakeingest::LakeIngest;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::again::Again;
use crate::left_behind::{self, LeftBehind};
use crate::limits::LEFT_BEHIND_QUEUE_MAX;
use crate::metrics::Metrics;
use crate::names::{INJECTED_BY, MANAGED_BY, MANAGER, PREFLIGHT, config_map};
use pods::ingest_of;

/// A LakeIngest as it was found: one that does not fit the type hinders no other.
pub type Found = DeserializeGuard<LakeIngest>;

/// What is known of a ConfigMap: not its content, of which whoever may write ConfigMaps can make any amount.
pub type ConfigMapMeta = PartialObjectMeta<ConfigMap>;

/// Objects of one page of a list. Derivation: an object has at most 1.5 MiB, and as much again when it is parsed; a page of
/// the largest fits the operator's memory.
const PAGE_OBJECTS: u32 = 50;

/// The stores. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    lake_ingests: Store<Found>,
    config_maps: Store<ConfigMapMeta>,
    pods: Store<Pod>,
    asking: Store<PodMeta>,
    trials: Store<Pod>,
    /// Changes whenever an object has, for whoever waits for one.
    changes: watch::Receiver<Progress>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Index").field("lake_ingests", &self.lake_ingests.len()).finish_non_exhaustive()
    }
}

/// A watch that fills a store; it has to be polled.
pub type Events<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, watcher::Error>> + Send>>;

/// The watches behind an [`Index`]. The controller polls them.
pub struct Watches {
    /// LakeIngests that came, changed or went.
    pub lake_ingests: Events<Found>,
    /// ConfigMaps that the operator has made.
    pub config_maps: Events<ConfigMapMeta>,
    /// Pods that have a sidecar.
    pub pods: Events<Pod>,
    /// Pods that ask and have none.
    pub asking: Events<PodMeta>,
    /// Pods that try a lake.
    pub trials: Events<Pod>,
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watches").finish_non_exhaustive()
    }
}

impl Index {
    /// Stores that are empty until their watches are polled, and what sidecars are seen to leave behind at their end.
    pub fn watch(client: &Client, metrics: &Arc<Metrics>) -> (Self, Watches, mpsc::Receiver<LeftBehind>) {
        let (progress, changes) = watch::channel(Progress::default());
        let tell = Tell { progress: Arc::new(progress), metrics: Arc::clone(metrics) };
        let paged = || watcher::Config::default().page_size(PAGE_OBJECTS);
        let ours = paged().labels(&format!("{MANAGED_BY}={MANAGER}"));
        let injected = paged().labels(INJECTED_BY);
        let (lake_ingests, lake_ingest_events) = follow(
            watcher(Api::<Found>::all(client.clone()), paged()),
            &tell,
            |all| &mut all.lake_ingests,
            kept::prune_lake_ingest,
        );
        let (config_maps, config_map_events) = follow(
            watcher(Api::<ConfigMapMeta>::all(client.clone()), ours),
            &tell,
            |all| &mut all.config_maps,
            |found: &mut ConfigMapMeta| kept::OF_CONFIG_MAP.prune(&mut found.metadata),
        );
        let (tell_left, left_behind) = mpsc::channel(LEFT_BEHIND_QUEUE_MAX);
        let look = move |pod: &mut Pod| {
            if let Some(left) = left_behind::of(pod) {
                // Past the bound the pod's own status still tells.
                let _ = tell_left.try_send(left);
            }
            pods::prune(pod);
        };
        let pods = watcher(Api::<Pod>::all(client.clone()), injected);
        let (pods, pod_events) = follow(pods, &tell, |all| &mut all.pods, look);
        let without = watcher(Api::<PodMeta>::all(client.clone()), asking::watched(paged()));
        let without = without.filter_map(async |event| event.map(asking::only_asking).transpose());
        let (asking, asking_events) = follow(
            without,
            &tell,
            |all| &mut all.asking,
            |pod: &mut PodMeta| kept::OF_ASKING_POD.prune(&mut pod.metadata),
        );
        let tried = watcher(Api::<Pod>::all(client.clone()), paged().labels(PREFLIGHT));
        let (trials, trial_events) = follow(tried, &tell, |all| &mut all.trials, pods::prune_trial);
        let watches = Watches {
            lake_ingests: lake_ingest_events,
            config_maps: config_map_events,
            pods: pod_events,
            asking: asking_events,
            trials: trial_events,
        };
        (Self { lake_ingests, config_maps, pods, asking, trials, changes }, watches, left_behind)
    }

    /// Stores of what was asked for once: nothing fills them further.
    pub fn of(lake_ingests: Vec<Found>, config_maps: Vec<ConfigMapMeta>) -> Self {
        let (lake_ingests, config_maps) = (filled(lake_ingests), filled(config_maps));
        let (pods, _) = reflector::store();
        let (asking, _) = reflector::store();
        let (trials, _) = reflector::store();
        let (_, changes) = watch::channel(Progress::default());
        Self { lake_ingests, config_maps, pods, asking, trials, changes }
    }

    /// Whether every store has been filled once: what is not there until then may be all the same.
    pub fn is_synced(&self) -> bool {
        self.changes.borrow().is_filled()
    }

    /// Comes back when every store has been filled once.
    pub async fn synced(&self) {
        // The watches end with the process; who waits ends before.
        let _ = self.changes.clone().wait_for(Progress::is_filled).await;
    }

    /// The store of LakeIngests, for the controller.
    pub fn lake_ingests(&self) -> Store<Found> {
        self.lake_ingests.clone()
    }

    /// Changes after each change of a LakeIngest, a ConfigMap or a pod.
    pub fn changes(&self) -> watch::Receiver<Progress> {
        self.changes.clone()
    }

    /// A LakeIngest by its name.
    pub fn lake_ingest(&self, namespace: &str, name: &str) -> Option<Arc<Found>> {
        self.lake_ingests.get(&ObjectRef::new(name).within(namespace))
    }

    /// How many LakeIngests there are.
    pub fn count(&self) -> usize {
        self.lake_ingests.len()
    }

    /// The names of a namespace's LakeIngests, in order.
    pub fn names(&self, namespace: &str) -> Vec<String> {
        let here = self.lake_ingests.state_filter(|found| found.namespace().as_deref() == Some(namespace));
        let mut names: Vec<String> = here.iter().map(|found| found.name_any()).collect();
        names.sort_unstable();
        names
    }

    /// The LakeIngests that fit the type and for which `is_so` holds.
    pub fn find(&self, is_so: impl Fn(&LakeIngest) -> bool) -> Vec<LakeIngest> {
        let all = self.lake_ingests.state();
        all.iter().filter_map(|found| found.0.as_ref().ok()).filter(|ingest| is_so(ingest)).cloned().collect()
    }

    /// What is known of the ConfigMap of a LakeIngest.
    pub fn config_map(&self, namespace: &str, ingest: &str) -> Option<Arc<ConfigMapMeta>> {
        self.config_maps.get(&ObjectRef::new(&config_map(ingest)).within(namespace))
    }

    /// The pods that have the sidecar of a LakeIngest and have not ended.
    pub fn pods(&self, namespace: &str, ingest: &str) -> Vec<SidecarPod> {
        let ingest = ObjectRef::new(ingest).within(namespace);
        let pods = self.pods.state_filter(|pod| ingest_of(pod).as_ref() == Some(&ingest));
        pods.iter().filter_map(|pod| SidecarPod::of(pod)).collect()
    }

    /// Every sidecar that has started, whose LakeIngest is there.
    pub fn sidecars(&self) -> Vec<SidecarPod> {
        let mut pods = self.pods_whose_ingest_is_there(true);
        pods.retain(|pod| pod.is_ready);
        pods
    }

    /// Pods that have a sidecar and have not ended, whose LakeIngest is gone.
    pub fn orphans(&self) -> Vec<SidecarPod> {
        self.pods_whose_ingest_is_there(false)
    }

    fn pods_whose_ingest_is_there(&self, is_there: bool) -> Vec<SidecarPod> {
        let pods = self.pods.state();
        let pods = pods.iter().filter_map(|pod| SidecarPod::of(pod));
        pods.filter(|pod| self.lake_ingests.get(&pod.ingest).is_some() == is_there).collect()
    }

    /// The pods that try a lake.
    pub fn trials(&self) -> Vec<Arc<Pod>> {
        self.trials.state()
    }

    /// The LakeIngest that a pod with the label of a sidecar is about: the one that it is wired from, or asks for in vain.
    pub fn concerned_by(&self, pod: &Pod) -> Option<ObjectRef<Found>> {
        ingest_of(pod).or_else(|| self.asked_by(pod))
    }

    /// The LakeIngest that a pod without a sidecar asks for.
    pub fn asked_by(&self, pod: &impl ResourceExt) -> Option<ObjectRef<Found>> {
        let (namespace, asked) = (pod.namespace()?, asking::asked(pod)?);
        match asked {
            "true" => match self.names(&namespace).as_slice() {
                [only] => Some(ObjectRef::new(only).within(&namespace)),
                _ => None,
            },
            name => Some(ObjectRef::new(name).within(&namespace)),
        }
    }

    /// The pods that ask for a LakeIngest and have no sidecar, by name.
    pub fn missing(&self, namespace: &str, ingest: &str) -> Vec<MissingPod> {
        let ingest = ObjectRef::new(ingest).within(namespace);
        let unlabelled = self.asking.state_filter(|pod| pod.namespace().as_deref() == Some(namespace));
        let unlabelled = unlabelled.iter().filter(|pod| self.asked_by(&***pod).as_ref() == Some(&ingest));
        let is_without = |pod: &Pod| ingest_of(pod).is_none() && !pods::has_ended(pod);
        let labelled = self.pods.state_filter(|pod| pod.namespace().as_deref() == Some(namespace) && is_without(pod));
        let labelled = labelled.iter().filter(|pod| self.asked_by(&***pod).as_ref() == Some(&ingest));
        let labelled = labelled.map(|pod| MissingPod::of(&**pod, &ingest.name));
        let mut missing: Vec<MissingPod> =
            unlabelled.map(|pod| MissingPod::of(&**pod, &ingest.name)).chain(labelled).collect();
        missing.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        missing
    }

    /// The pods that ask for a LakeIngest and have no sidecar, and would get one if they came now, as far as is known here.
    pub fn missing_that_could_have_one(&self) -> Vec<MissingPod> {
        let all = self.asking.state();
        let missing = all.iter().filter_map(|pod| {
            let ingest = self.asked_by(&**pod)?;
            let namespace = ingest.namespace.as_deref()?;
            self.lake_ingests.get(&ingest)?.0.as_ref().ok()?;
            self.config_map(namespace, &ingest.name)?;
            Some(MissingPod::of(&**pod, &ingest.name))
        });
        missing.collect()
    }
}

/// Fills an [`Index`] by hand.
#[cfg(test)]
pub(crate) struct Filler {
    lake_ingests: reflector::store::Writer<Found>,
    config_maps: reflector::store::Writer<ConfigMapMeta>,
    pods: reflector::store::Writer<Pod>,
    asking: reflector::store::Writer<PodMeta>,
    trials: reflector::store::Writer<Pod>,
    changed: watch::Sender<Progress>,
}

#[cfg(test)]
impl Filler {
    /// An index that knows of nothing, and what fills it.
    pub(crate) fn empty() -> (Self, Index) {
        let (lake_ingests, lake_ingests_writer) = reflector::store();
        let (config_maps, config_maps_writer) = reflector::store();
        let (pods, pods_writer) = reflector::store();
        let (asking, asking_writer) = reflector::store();
        let (trials, trials_writer) = reflector::store();
        let (changed, changes) = watch::channel(Progress::default());
        let filler = Self {
            lake_ingests: lake_ingests_writer,
            config_maps: config_maps_writer,
            pods: pods_writer,
            asking: asking_writer,
            trials: trials_writer,
            changed,
        };
        (filler, Index { lake_ingests, config_maps, pods, asking, trials, changes })
    }

    /// Every watch has given its list.
    pub(crate) fn all_filled(&mut self) {
        self.changed.send_modify(|progress| {
            for watched in [
                &mut progress.lake_ingests,
                &mut progress.config_maps,
                &mut progress.pods,
                &mut progress.asking,
                &mut progress.trials,
            ] {
                watched.is_filled = true;
            }
        });
    }

    /// A LakeIngest comes.
    pub(crate) fn lake_ingest(&mut self, ingest: LakeIngest) {
        self.lake_ingests.apply_watcher_event(&watcher::Event::Apply(DeserializeGuard(Ok(ingest))));
        self.changed.send_modify(|progress| progress.lake_ingests.events += 1);
    }

    /// A pod with a sidecar comes, as it is kept.
    pub(crate) fn pod(&mut self, mut pod: Pod) {
        pods::prune(&mut pod);
        self.pods.apply_watcher_event(&watcher::Event::Apply(pod));
    }

    /// A pod without one comes.
    pub(crate) fn asking(&mut self, metadata: ObjectMeta) {
        let pod = PodMeta { metadata, types: None, _phantom: std::marker::PhantomData };
        self.asking.apply_watcher_event(&watcher::Event::Apply(pod));
    }

    /// A pod that tries a lake comes, as it is kept.
    pub(crate) fn trial(&mut self, mut pod: Pod) {
        pods::prune_trial(&mut pod);
        self.trials.apply_watcher_event(&watcher::Event::Apply(pod));
    }

    /// A ConfigMap comes.
    pub(crate) fn config_map(&mut self, config_map: ConfigMap) {
        let meta = ConfigMapMeta { metadata: config_map.metadata, types: None, _phantom: std::marker::PhantomData };
        self.config_maps.apply_watcher_event(&watcher::Event::Apply(meta));
        self.changed.send_modify(|progress| progress.lake_ingests.events += 1);
    }
}

/// How far one watch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Whether its store has been filled once.
    is_filled: bool,
    /// Events so far.
    events: u64,
}

/// How far the watches are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    lake_ingests: Watched,
    config_maps: Watched,
    pods: Watched,
    asking: Watched,
    trials: Watched,
}

impl Progress {
    fn is_filled(&self) -> bool {
        [self.lake_ingests, self.config_maps, self.pods, self.asking, self.trials]
            .iter()
            .all(|watched| watched.is_filled)
    }

    /// What changes with whatever decides over the trial of a lake.
    pub fn of_trials(&self) -> impl PartialEq + use<> {
        (self.lake_ingests, self.config_maps, self.trials)
    }
}

/// Where it is told how far a watch is.
struct Tell {
    progress: Arc<watch::Sender<Progress>>,
    metrics: Arc<Metrics>,
}

/// A store and the watch that fills it. The store's own `wait_until_ready` wakes only the last one who waits, and the
/// controller waits as well: hence the progress, which any number may look at.
fn follow<K>(
    watched: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    tell: &Tell,
    of: fn(&mut Progress) -> &mut Watched,
    prune: impl FnMut(&mut K) + Send + 'static,
) -> (Store<K>, Events<K>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let Tell { progress, metrics } = tell;
    let (progress, metrics) = (Arc::clone(progress), Arc::clone(metrics));
    let tell = move |event: &Result<watcher::Event<K>, watcher::Error>| match event {
        Ok(event) => progress.send_modify(|progress| {
            let watched = of(progress);
            watched.events = watched.events.wrapping_add(1);
            watched.is_filled |= matches!(event, watcher::Event::InitDone);
        }),
        Err(error) => watch_failed(&metrics, kind_of::<K>(), error),
    };
    let events = watched.backoff(Again::default()).modify(prune).reflect(writer);
    // Each watch has its own pauses; the controller would pause all of them for the error of one.
    let touched = events.inspect(tell).touched_objects().filter(|event| futures::future::ready(event.is_ok()));
    (store, Box::pin(touched))
}

/// The name of a kind, which every type has that is known when this is built.
fn kind_of<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(_) => "other",
    }
}

/// Tells that a watch broke or could not begin. It is tried again by itself, less and less often; what was seen before stands.
pub(crate) fn watch_failed(metrics: &Metrics, kind: &'static str, error: &watcher::Error) {
    metrics.watch_failed(kind);
    warn!(error = %crate::error_chain(error), kind, "failed to watch");
}

fn filled<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::Apply(object));
    }
    store
}

#[cfg(test)]
mod tests;
