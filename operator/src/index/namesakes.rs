//! LakeIngests whose pods mean them by `true`, which says another one when one comes or goes.
//!
//! Owns: telling which are to be looked at then. Does not own: which one a pod means (`Index::asked_by`).

use std::collections::BTreeSet;

use futures::Stream;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Found, Index};

/// Namespaces and names.
type Names = BTreeSet<(String, String)>;

impl Index {
    /// The LakeIngests of a namespace, whenever one of it has come or gone.
    pub fn namesakes(&self) -> impl Stream<Item = ObjectRef<Found>> + Send + 'static {
        let pending: Vec<(String, String)> = Vec::new();
        let state = (self.clone(), self.changes(), 0_u64, Names::new(), pending);
        futures::stream::unfold(state, |(index, mut changes, mut seen, mut known, mut pending)| async move {
            loop {
                if let Some((namespace, name)) = pending.pop() {
                    let next = ObjectRef::new(&name).within(&namespace);
                    return Some((next, (index, changes, seen, known, pending)));
                }
                changes.changed().await.ok()?;
                let events = changes.borrow_and_update().lake_ingests.events;
                if std::mem::replace(&mut seen, events) == events {
                    continue;
                }
                let now = index.all_names();
                pending = beside_changes(&known, &now);
                known = now;
            }
        })
    }

    fn all_names(&self) -> Names {
        let all = self.lake_ingests.state();
        all.iter().map(|found| (found.namespace().unwrap_or_default(), found.name_any())).collect()
    }
}

/// Those that are there now in namespaces in which one has come or gone.
fn beside_changes(before: &Names, now: &Names) -> Vec<(String, String)> {
    let namespaces: BTreeSet<&str> =
        before.symmetric_difference(now).map(|(namespace, _)| namespace.as_str()).collect();
    now.iter().filter(|(namespace, _)| namespaces.contains(namespace.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::json;

    use super::*;
    use crate::fixtures::ingest;
    use crate::index::Filler;

    #[test]
    fn those_of_a_namespace_are_looked_at_when_one_of_it_comes_or_goes() {
        let names = |all: &[(&str, &str)]| -> Names {
            all.iter().map(|(namespace, name)| ((*namespace).to_owned(), (*name).to_owned())).collect()
        };
        let (one, two) = (names(&[("a", "x"), ("b", "x")]), names(&[("a", "x"), ("a", "y"), ("b", "x")]));
        let of_a = |all: &Names| -> Vec<(String, String)> {
            all.iter().filter(|(namespace, _)| namespace == "a").cloned().collect()
        };
        assert_eq!(beside_changes(&one, &two), of_a(&two));
        assert_eq!(beside_changes(&two, &one), of_a(&one));
        assert_eq!(beside_changes(&two, &two), []);
    }

    /// Its pods that say `true` mean no one any more.
    #[tokio::test]
    async fn a_lake_ingest_is_looked_at_when_another_one_comes_beside_it() {
        let (mut filler, index) = Filler::empty();
        let mut namesakes = std::pin::pin!(index.namesakes());
        filler.lake_ingest(ingest("events", json!({})));
        let mut next = async || namesakes.next().await.map(|next| next.name);
        assert_eq!(next().await.as_deref(), Some("events"));
        filler.lake_ingest(ingest("orders", json!({})));
        let mut both = [next().await, next().await].map(Option::unwrap_or_default);
        both.sort_unstable();
        assert_eq!(both, ["events", "orders"]);
    }
}
