//! Pods that ask, against LakeIngests that are there, wrong, late or not there.

use futures::FutureExt;
use lakeingest_crds::lakeingest::validate_spec;
use serde_json::json;

use super::*;
use crate::clock::SystemClock;
use crate::controller::build;
use crate::fixtures::{ingest, names, pod};
use crate::index::Filler;
use crate::limits::PODS_WAITING_IN_NAMESPACE_MAX;
use crate::namespaces::Facts as NamespaceFacts;
use crate::webhook::PodJson;

fn admission(index: Index, reference_wait: Duration) -> Admission {
    let waits = Waits::new(reference_wait, SystemClock::shared());
    Admission { index, namespaces: Namespaces::of(Default::default()), names: Arc::new(names()), waits }
}

/// As [`admission`], in a cluster where namespace `team-a` has this label.
fn labelled(index: Index, label: &str) -> Admission {
    let namespaces = Namespaces::of(
        [("team-a".to_owned(), NamespaceFacts { label: Some(label.to_owned()), assigns_users: false })].into(),
    );
    Admission { namespaces, ..admission(index, Duration::ZERO) }
}

fn review(annotation: Value) -> PodReview {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({INJECT: annotation});
    review_of(&pod)
}

fn review_of(pod: &Value) -> PodReview {
    let pod = PodJson::for_test(pod);
    PodReview { namespace: "team-a".to_owned(), pod, dry_run: false, is_sent_for_label: false }
}

/// An index with these LakeIngests of namespace `team-a`, each rendered.
fn index_with(ingests: &[&str]) -> (Filler, Index) {
    let (mut filler, index) = Filler::empty();
    for name in ingests {
        let ingest = ingest(name, json!({"storage": {"bucket": "lake-data", "prefix": name}}));
        filler.config_map(build(&validate(&ingest, &names()).expect("it is legal"), None).config_map);
        filler.lake_ingest(ingest);
    }
    (filler, index)
}

async fn decide(ingests: &[&str], annotation: Value) -> Decision {
    let (_filler, index) = index_with(ingests);
    admission(index, Duration::ZERO).decide(review(annotation)).await
}

async fn refusal(ingests: &[&str], annotation: Value) -> String {
    match decide(ingests, annotation.clone()).await {
        Decision::Refused { message } => message,
        other => panic!("{annotation} was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_pod_that_did_not_ask_is_not_touched() {
    for annotation in [Value::Null, json!("false"), json!(" false ")] {
        let decision = decide(&["events"], annotation.clone()).await;
        assert!(
            matches!(&decision, Decision::Unchanged { warnings } if warnings.is_empty()),
            "{annotation}: {decision:?}"
        );
    }
}

#[tokio::test]
async fn a_pod_gets_the_lake_ingest_that_it_names_or_the_only_one() {
    for (ingests, annotation) in [
        (vec!["events", "orders"], json!("orders")),
        (vec!["orders"], json!("true")),
        (vec!["orders"], json!(" orders ")),
    ] {
        match decide(&ingests, annotation.clone()).await {
            Decision::Patched { patch, .. } => {
                assert!(Value::from(patch).to_string().contains("lakeingest-orders"), "{annotation}");
            }
            other => panic!("{annotation} was not injected: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_refused_with_those_that_exist() {
    let message = refusal(&["events", "orders"], json!("evnets")).await;
    assert!(message.contains("\"evnets\"") && message.contains("events, orders"), "{message}");
    let message = refusal(&[], json!("events")).await;
    assert!(message.contains("create one first"), "{message}");
}

#[tokio::test]
async fn true_needs_exactly_one() {
    let message = refusal(&["events", "orders"], json!("true")).await;
    assert!(message.contains("exactly one") && message.contains("events, orders"), "{message}");
}

#[tokio::test]
async fn an_annotation_that_says_nothing_is_refused() {
    for annotation in [json!(""), json!("  "), json!(true), json!({})] {
        assert!(refusal(&["events"], annotation).await.contains("write the name of a LakeIngest"));
    }
}

/// Invariant I7: a pod is refused with the words that the LakeIngest's status has, since both come from `validate_spec`.
#[tokio::test]
async fn i7_a_lake_ingest_that_cannot_be_used_is_named_with_every_violation() {
    let wrong = ingest("events", json!({"storage": {"bucket": "B"}, "flush": {"maxAge": "5ms"}}));
    let violations = validate_spec("events", &wrong.spec, &names().images).expect_err("it is wrong").to_string();
    assert!(violations.contains("spec.storage.bucket") && violations.contains("spec.flush.maxAge"), "{violations}");
    let (mut filler, index) = Filler::empty();
    filler.lake_ingest(wrong);
    let decision = admission(index, Duration::ZERO).decide(review(json!("events"))).await;
    assert!(matches!(&decision, Decision::Refused { message } if message.contains(&violations)), "{decision:?}");
}

#[tokio::test]
async fn a_lake_ingest_without_its_config_map_is_not_enough() {
    let (mut filler, index) = Filler::empty();
    filler.lake_ingest(ingest("events", json!({})));
    let decision = admission(index, Duration::ZERO).decide(review(json!("events"))).await;
    assert!(
        matches!(&decision, Decision::Refused { message } if message.contains("lakeingest-events")),
        "{decision:?}"
    );
}

/// Goal: one file with a LakeIngest and a pod can be applied in one go.
/// Method: the LakeIngest and its ConfigMap come while the pod waits; the wait is long, so that only their coming ends it.
#[tokio::test]
async fn a_pod_waits_for_a_lake_ingest_that_was_made_just_before_it() {
    let (mut filler, index) = Filler::empty();
    let admission = admission(index, Duration::from_secs(60));
    let ingest = ingest("events", json!({}));
    let config_map = build(&validate(&ingest, &names()).expect("it is legal"), None).config_map;
    let coming = async {
        filler.lake_ingest(ingest);
        tokio::task::yield_now().await;
        filler.config_map(config_map);
        filler
    };
    let (decision, _filler) = tokio::join!(admission.decide(review(json!("events"))), coming);
    assert!(matches!(decision, Decision::Patched { .. }), "{decision:?}");
}

#[tokio::test]
async fn a_pod_may_choose_to_run_without_its_sidecar() {
    let (_filler, index) = index_with(&[]);
    let mut pod = pod();
    pod["metadata"]["annotations"][ON_ERROR] = json!("allow");
    let decision = admission(index, Duration::ZERO).decide(review_of(&pod)).await;
    assert!(
        matches!(&decision, Decision::LetPass { warning } if warning.contains("without its sidecar: there is no LakeIngest")),
        "{decision:?}"
    );
}

#[tokio::test]
async fn a_lake_ingest_of_another_namespace_is_not_seen() {
    let (_filler, index) = index_with(&["events"]);
    let review = PodReview { namespace: "team-b".to_owned(), ..review(json!("events")) };
    let decision = admission(index, Duration::ZERO).decide(review).await;
    assert!(matches!(decision, Decision::Refused { .. }), "{decision:?}");
}

/// A ConfigMap that an earlier LakeIngest of the name has left, or that an earlier generation rendered, wires nobody.
#[tokio::test]
async fn a_pod_is_wired_from_what_its_lake_ingest_says_now_or_not_at_all() {
    let changes: [fn(&mut k8s_openapi::api::core::v1::ConfigMap); 3] = [
        |stale| stale.metadata.owner_references = None,
        |stale| stale.metadata.owner_references.get_or_insert_default()[0].uid = "another".to_owned(),
        |stale| stale.metadata.annotations = Some([(GENERATION.to_owned(), "2".to_owned())].into()),
    ];
    for change in changes {
        let (mut filler, index) = Filler::empty();
        let ingest = ingest("events", json!({}));
        let mut config_map = build(&validate(&ingest, &names()).expect("it is legal"), None).config_map;
        change(&mut config_map);
        filler.config_map(config_map);
        filler.lake_ingest(ingest);
        let decision = admission(index, Duration::ZERO).decide(review(json!("events"))).await;
        assert!(matches!(&decision, Decision::Refused { message } if message.contains("says now")), "{decision:?}");
    }
}

#[tokio::test]
async fn what_a_refusal_repeats_is_short_and_cannot_pass_for_a_line_of_the_log() {
    let message = refusal(&[], json!(format!("x\n2026 ERROR {}", "y".repeat(70_000)))).await;
    assert!(message.len() < 400 && !message.contains('\n'), "{message}");
}

/// Invariant I10: where the namespace alone asks, a pod that cannot have a sidecar is created without one, and told.
#[tokio::test]
async fn i10_what_a_namespace_asks_for_in_vain_keeps_no_pod_from_starting() {
    let (_filler, index) = index_with(&["events", "orders"]);
    for (label, host_network, words) in [
        ("evnets", false, "there is no LakeIngest \"evnets\""),
        ("true", false, "exactly one"),
        ("", false, "is empty"),
        ("events", true, "take hostNetwork away"),
    ] {
        let mut pod = pod();
        pod["metadata"]["annotations"] = Value::Null;
        pod["spec"]["hostNetwork"] = json!(host_network);
        let review = PodReview { is_sent_for_label: true, ..review_of(&pod) };
        let decision = labelled(index.clone(), label).decide(review).await;
        let is_told = matches!(&decision, Decision::LetPass { warning }
            if warning.contains(words) && warning.contains("its namespace asks by the label"));
        assert!(is_told, "{label}: {decision:?}");
    }
}

#[tokio::test]
async fn a_pod_that_says_nothing_gets_what_its_namespace_asks_for() {
    let (_filler, index) = index_with(&["events", "orders"]);
    let decide = async |label: &str, annotation: Value| labelled(index.clone(), label).decide(review(annotation)).await;
    let from = |decision: Decision| match decision {
        Decision::Patched { patch, .. } => Value::from(patch).to_string(),
        other => panic!("it was not injected: {other:?}"),
    };
    assert!(from(decide("orders", Value::Null).await).contains("lakeingest-orders"));
    assert!(from(decide("orders", json!("events")).await).contains("lakeingest-events"), "the pod's own word wins");
    for (label, annotation) in [("orders", json!("false")), ("false", Value::Null)] {
        let decision = decide(label, annotation).await;
        assert!(matches!(&decision, Decision::Unchanged { warnings } if warnings.is_empty()), "{label}: {decision:?}");
    }
    let decision = decide("events", json!("evnets")).await;
    assert!(matches!(decision, Decision::Refused { .. }), "a pod that asks itself is refused: {decision:?}");
}

/// The API server has seen the label and the operator has not: the pod waits, and is told when the wait was in vain.
#[tokio::test]
async fn a_label_that_was_not_seen_yet_is_waited_for() {
    let (_filler, index) = index_with(&["events"]);
    let sent = PodReview { is_sent_for_label: true, ..review(Value::Null) };
    let decision = admission(index.clone(), Duration::ZERO).decide(sent.clone()).await;
    assert!(
        matches!(&decision, Decision::LetPass { warning } if warning.contains("has not seen the label")),
        "{decision:?}"
    );
    let (namespaces, mut teller) = Namespaces::for_test();
    let waiting = Admission { namespaces, ..admission(index, Duration::from_secs(60)) };
    let coming = async {
        tokio::task::yield_now().await;
        teller("team-a", "events");
    };
    let (decision, ()) = tokio::join!(waiting.decide(sent), coming);
    assert!(matches!(decision, Decision::Patched { .. }), "{decision:?}");
}

/// Goal: no pod makes the operator take more memory than it may, and none that did not ask is kept from starting for it.
#[tokio::test]
async fn i10_a_pod_of_too_many_fields_is_refused_in_words_where_it_asked_and_passes_where_it_did_not() {
    let (_filler, index) = index_with(&["events"]);
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"] = json!(vec![json!({"name": "a"}); 40_000]);
    let mut decide = async |annotations: Value| {
        pod["metadata"]["annotations"] = annotations;
        admission(index.clone(), Duration::ZERO).decide(review_of(&pod)).await
    };
    let words = "the pod has too many fields";
    let decision = decide(json!({INJECT: "events"})).await;
    assert!(matches!(&decision, Decision::Refused { message } if message.contains(words)), "{decision:?}");
    let decision = decide(json!({INJECT: "events", ON_ERROR: "allow"})).await;
    assert!(matches!(&decision, Decision::LetPass { warning } if warning.contains(words)), "{decision:?}");
    let decision = decide(Value::Null).await;
    assert!(matches!(&decision, Decision::Unchanged { warnings } if warnings.is_empty()), "{decision:?}");
}

/// Method: as many variables as etcd takes in one pod, with the fields by which the API server notes who manages them.
#[tokio::test]
async fn the_largest_pod_that_can_be_stored_gets_its_sidecar() {
    let (_filler, index) = index_with(&["events"]);
    let names: Vec<_> = (0..9_000).map(|number| format!("VARIABLE_{number}")).collect();
    let managed = |name: &String| {
        let field = json!({".": {}, "f:name": {}, "f:value": {}});
        (format!(r#"k:{{"name":"{name}"}}"#), field)
    };
    let mut pod = pod();
    pod["metadata"]["managedFields"] =
        json!([{"fieldsV1": names.iter().map(managed).collect::<serde_json::Map<_, _>>()}]);
    let variable = |name: &String| json!({"name": name, "value": "some words that are of use to it"});
    pod["spec"]["containers"][0]["env"] = names.iter().map(variable).collect();
    let length = pod.to_string().len();
    assert!((1 << 20..3 << 19).contains(&length), "{length}");
    let decision = admission(index, Duration::ZERO).decide(review_of(&pod)).await;
    assert!(matches!(decision, Decision::Patched { .. }), "{decision:?}");
}

/// Goal: pods that name no LakeIngest keep nobody else's from being decided over.
/// Method: the wait is longer than a test; a pod that is answered at the first look has not waited.
#[tokio::test]
async fn i12_pods_that_ask_in_vain_wait_in_a_bounded_number_and_not_again() {
    let (_filler, index) = index_with(&["orders"]);
    let patient = admission(index.clone(), Duration::from_secs(3_600));
    let of = |namespace: &str, name: &str| {
        let review = PodReview { namespace: namespace.to_owned(), ..review(json!(name)) };
        let admission = patient.clone();
        Box::pin(async move { admission.decide(review).await })
    };
    let mut waiting: Vec<_> = (0..PODS_WAITING_IN_NAMESPACE_MAX).map(|_| of("team-a", "evnets")).collect();
    for pod in &mut waiting {
        assert!(pod.now_or_never().is_none());
    }
    let decision = of("team-a", "evnets").now_or_never();
    let says = |decision: &Option<Decision>| matches!(decision, Some(Decision::Refused { message }) if message.contains("there is no LakeIngest \"evnets\""));
    assert!(says(&decision), "{decision:?}");
    assert!(matches!(of("team-a", "orders").now_or_never(), Some(Decision::Patched { .. })));
    assert!(of("team-b", "evnets").now_or_never().is_none(), "another namespace has its own bound");
    drop(waiting);
    assert!(of("team-a", "evnets").now_or_never().is_none());

    let hasty = admission(index, Duration::ZERO);
    hasty.decide(review(json!("evnets"))).await;
    let patient = Admission { waits: hasty.waits.waiting_for(Duration::from_secs(3_600)), ..hasty };
    let decision = patient.decide(review(json!("evnets"))).now_or_never();
    assert!(says(&decision), "{decision:?}");
    assert!(patient.decide(review(json!("ordres"))).now_or_never().is_none(), "another name is waited for");
}
