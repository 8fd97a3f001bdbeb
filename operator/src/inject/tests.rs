//! Pods of many shapes with the sidecar added to them.

mod properties;

use lakeingest_crds::Quantity;

use super::*;
use crate::controller::validate;
use crate::fixtures::pods::pods;
use crate::fixtures::{ingest, names, pod, validated};
use crate::names::{CONFIG_PATH, CONFIG_VOLUME, CREDENTIALS_VOLUME, GRACE_VARIABLE};

/// Injects, and holds the patch against an implementation of RFC 6902 that is not ours.
fn injected(pod: &Value) -> Value {
    let injection = inject(pod, &validated()).expect("the pod can be injected");
    let mut applied = pod.clone();
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(injection.patch)).expect("the operations are a patch");
    json_patch::patch(&mut applied, &patch).expect("the patch applies");
    assert_eq!(applied, injection.pod);
    applied
}

fn refuses_with(words: &str, change: impl FnOnce(&mut Value)) {
    let mut pod = pod();
    change(&mut pod);
    let refusal = inject(&pod, &validated()).expect_err("it cannot work").to_string();
    assert!(refusal.contains(words), "{refusal}");
}

fn sidecar(pod: &Value) -> &Value {
    items(&pod["spec"]["initContainers"]).find(|container| container["name"] == CONTAINER).expect("it is injected")
}

#[test]
fn a_plain_pod_gets_the_container_its_volumes_and_the_variable() {
    let pod = injected(&pod());
    let sidecar = sidecar(&pod);
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["args"], json!(["serve"]));
    assert_eq!(sidecar["startupProbe"]["exec"]["command"], json!(["lakeingest-sidecar", "started"]));
    assert_eq!(sidecar["lifecycle"]["preStop"]["exec"]["command"], json!(["lakeingest-sidecar", "drain"]));
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "LAKE_INGEST_URL", "value": "http://localhost:8001"}])
    );
    let volumes: Vec<&str> = items(&pod["spec"]["volumes"]).filter_map(|volume| volume["name"].as_str()).collect();
    assert_eq!(volumes, ["lakeingest-journal", "lakeingest-scratch", "lakeingest-config", "lakeingest-credentials"]);
    let mounts: Vec<&str> = items(&sidecar["volumeMounts"]).filter_map(|mount| mount["name"].as_str()).collect();
    assert!(volumes.iter().all(|volume| mounts.contains(volume)), "{mounts:?}");
    assert_eq!(pod["metadata"]["labels"]["lakeingest.io/injected-by"], "events");
    let status = pod["metadata"]["annotations"]["lakeingest.io/status"].as_str().expect("the status is a text");
    let status: Value = serde_json::from_str(status).expect("the status is JSON");
    assert_eq!(status["lakeIngest"], json!({"name": "events", "uid": "uid-of-events", "generation": 3}));
    assert_eq!(status["version"], 1);
}

/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>.
#[test]
fn the_container_keeps_every_rule_of_the_restricted_standard() {
    let pod = injected(&pod());
    let context = &sidecar(&pod)["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert!(context["runAsUser"].as_u64().is_some_and(|user| user > 0));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    for volume in items(&pod["spec"]["volumes"]) {
        assert!(volume.get("emptyDir").is_some() || volume.get("projected").is_some(), "{volume}");
    }
}

#[test]
fn a_secret_that_is_missing_does_not_keep_the_pod_from_starting() {
    let pod = injected(&pod());
    let volume =
        items(&pod["spec"]["volumes"]).find(|volume| volume["name"] == CREDENTIALS_VOLUME).expect("it is there");
    let secret = &volume["projected"]["sources"][0]["secret"];
    assert_eq!((&secret["name"], &secret["optional"]), (&json!("lake-s3"), &json!(true)));
}

#[test]
fn the_pods_token_is_kept_from_the_sidecar() {
    let pod = injected(&pod());
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mount = items(&sidecar(&pod)["volumeMounts"]).find(|mount| mount["mountPath"] == path);
    assert_eq!(mount.map(|mount| &mount["name"]), Some(&json!(SCRATCH_VOLUME)), "an empty folder is there instead");
}

#[test]
fn without_a_secret_there_is_no_volume_for_one() {
    let mut without = ingest("events", json!({}));
    without.spec.storage.credentials = None;
    let without = validate(&without, &names()).expect("it is legal");
    let pod = inject(&pod(), &without).expect("it can be injected").pod;
    assert!(items(&pod["spec"]["volumes"]).all(|volume| volume["name"] != CREDENTIALS_VOLUME));
    assert!(items(&sidecar(&pod)["volumeMounts"]).all(|mount| mount["name"] != CREDENTIALS_VOLUME));
}

#[test]
fn an_identity_is_a_token_in_the_sidecar_alone_and_a_role() {
    let of = |account: Value| {
        let mut lent = ingest("events", json!({}));
        let identity =
            json!({"serviceAccountName": account, "audience": "lake", "aws": {"roleArn": "arn:aws:iam::1:role/lake"}});
        lent.spec.storage.credentials = serde_json::from_value(json!({"workloadIdentity": identity})).ok();
        validate(&lent, &names()).expect("it is legal")
    };
    let lent = of(Value::Null);
    let pod = inject(&pod(), &lent).expect("it can be injected").pod;
    let token = json!({"audience": "lake", "expirationSeconds": 3600, "path": "token"});
    let volume = json!({"name": "lakeingest-token", "projected": {"sources": [{"serviceAccountToken": token}]}});
    assert!(items(&pod["spec"]["volumes"]).any(|found| *found == volume), "{pod}");
    assert!(items(&pod["spec"]["volumes"]).all(|volume| volume["name"] != CREDENTIALS_VOLUME));
    let mounts = |container: &Value| items(&container["volumeMounts"]).any(|mount| mount["name"] == "lakeingest-token");
    assert!(mounts(sidecar(&pod)) && !mounts(&pod["spec"]["containers"][0]));
    for (name, value) in [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/lake"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/etc/lakeingest/token/token"),
        ("LAKEINGEST_CREDENTIALS", "environment"),
    ] {
        assert!(items(&sidecar(&pod)["env"]).any(|found| *found == json!({"name": name, "value": value})), "{name}");
    }
    assert_eq!(inject(&pod, &lent).expect("it can be injected").patch, Vec::<Value>::new());

    let other = inject(&self::pod(), &of(json!("shop"))).expect_err("it runs as default").to_string();
    assert!(other.contains("\"default\"") && other.contains("serviceAccountName: shop"), "{other}");
    let mut shop = self::pod();
    shop["spec"]["serviceAccountName"] = json!("shop");
    inject(&shop, &of(json!("shop"))).expect("it runs as the account that is named");

    let own = json!([{"name": "lakeingest", "env": [{"name": "AWS_ROLE_ARN", "value": "arn:of:the:pod"}]}]);
    let mut shop = self::pod();
    shop["spec"]["initContainers"] = own;
    let pod = inject(&shop, &lent).expect("it can be injected").pod;
    let roles: Vec<&Value> = items(&sidecar(&pod)["env"]).filter(|found| found["name"] == "AWS_ROLE_ARN").collect();
    assert_eq!(roles, [&json!({"name": "AWS_ROLE_ARN", "value": "arn:of:the:pod"})], "what is there is kept");
}

#[test]
fn authorities_lie_beside_the_configuration_and_need_not_be_there() {
    let s3 = json!({"caBundle": {"configMapKeyRef": {"name": "authorities", "key": "bundle.pem"}}});
    let with = validate(&ingest("events", json!({"storage": {"s3": s3}})), &names()).expect("it is legal");
    let first = inject(&pod(), &with).expect("it can be injected");
    let config = items(&first.pod["spec"]["volumes"]).find(|volume| volume["name"] == CONFIG_VOLUME);
    let sources = &config.expect("it is there")["projected"]["sources"];
    let items = json!([{"key": "bundle.pem", "path": "ca.crt"}]);
    assert_eq!(sources[1], json!({"configMap": {"name": "authorities", "optional": true, "items": items}}));
    assert_eq!(sources.as_array().map(Vec::len), Some(2));
    assert_eq!(with.spec.config.storage.s3.ca_file, Some(format!("{CONFIG_PATH}/ca.crt")));
    assert_eq!(inject(&first.pod, &with).expect("it can be injected").patch, Vec::<Value>::new());
}

#[test]
fn our_grace_is_added_to_the_pods_own_and_passed_on() {
    for (own, original, whole) in [(json!(5), "5", 65), (json!(null), "30", 90), (json!(0), "0", 60)] {
        let mut pod = pod();
        pod["spec"]["terminationGracePeriodSeconds"] = own;
        let pod = injected(&pod);
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], whole);
        assert_eq!(pod["metadata"]["annotations"][ORIGINAL_GRACE], original);
        let passed = items(&sidecar(&pod)["env"]).find(|variable| variable["name"] == GRACE_VARIABLE);
        assert_eq!(passed.map(|variable| &variable["value"]), Some(&json!(whole.to_string())));
    }
}

#[test]
fn the_request_for_ephemeral_storage_is_that_of_both_volumes_and_the_log() {
    let pod = injected(&pod());
    let resources = &sidecar(&pod)["resources"];
    let requested = resources["requests"]["ephemeral-storage"].as_str().expect("it is requested");
    let requested: Quantity = requested.parse().expect("it is a quantity");
    assert_eq!(requested.bytes(), (2 << 30) + (1 << 30) + (50 << 20));
    assert!(resources["limits"]["ephemeral-storage"].is_null(), "alone it would limit the whole pod");
}

#[test]
fn where_a_container_limits_ephemeral_storage_ours_is_among_the_limits() {
    let mut init = pod();
    init["spec"]["initContainers"] = json!([{"name": "init", "resources": {"limits": {"ephemeral-storage": "1Gi"}}}]);
    assert!(!sidecar(&injected(&init))["resources"]["limits"]["ephemeral-storage"].is_null());
    let mut limited = pod();
    limited["spec"]["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "20Mi"}});
    let pod = injected(&limited);
    let resources = &sidecar(&pod)["resources"];
    assert_eq!(resources["limits"]["ephemeral-storage"], resources["requests"]["ephemeral-storage"]);
}

#[test]
fn the_container_is_first_or_right_behind_a_mesh_proxy_that_is_a_sidecar() {
    let proxy = json!({"name": "istio-proxy", "restartPolicy": "Always"});
    for (before, place) in [
        (json!([]), 0),
        (json!([{"name": "migrate"}]), 0),
        (json!([{"name": "istio-init"}, proxy, {"name": "migrate"}]), 2),
        // An ordinary init container of that name would end before the application starts.
        (json!([{"name": "istio-proxy"}]), 0),
    ] {
        let mut with = pod();
        with["spec"]["initContainers"] = before;
        let pod = injected(&with);
        assert_eq!(pod["spec"]["initContainers"][place]["name"], CONTAINER);
    }
}

#[test]
fn volumes_that_may_be_lost_with_a_node_are_added_to_the_autoscalers_list() {
    let mut listed = pod();
    listed["metadata"]["annotations"][SAFE_TO_EVICT_VOLUMES] = json!("cache, lakeingest-journal");
    let pod = injected(&listed);
    assert_eq!(pod["metadata"]["annotations"][SAFE_TO_EVICT_VOLUMES], "cache,lakeingest-journal,lakeingest-scratch");
}

#[test]
fn a_second_run_adds_nothing() {
    let once = injected(&pod());
    let again = inject(&once, &validated()).expect("it can be injected");
    assert_eq!(again.patch, Vec::<Value>::new());
}

#[test]
fn what_another_webhook_has_taken_away_is_put_back() {
    let mut stripped = injected(&pod());
    let whole = stripped.clone();
    let sidecar = &mut stripped["spec"]["initContainers"][0];
    for field in ["restartPolicy", "startupProbe", "lifecycle"] {
        sidecar.as_object_mut().expect("a container is an object").remove(field);
    }
    assert_eq!(injected(&stripped), whole);
}

#[test]
fn a_copy_of_an_injected_pod_without_the_container_gets_the_marks_of_its_own_injection() {
    let mut copy = injected(&pod());
    copy["spec"]["initContainers"] = json!([]);
    copy["metadata"]["annotations"][STATUS] = json!("{\"version\":0}");
    copy["metadata"]["labels"][INJECTED_BY] = json!("another");
    let pod = injected(&copy);
    assert_eq!(pod["metadata"]["labels"][INJECTED_BY], "events");
    assert!(pod["metadata"]["annotations"][STATUS].as_str().is_some_and(|status| status.contains("uid-of-events")));
}

#[test]
fn a_container_that_sets_the_variable_itself_keeps_it_and_is_warned() {
    let mut own = pod();
    own["spec"]["containers"][0]["env"] = json!([{"name": "LAKE_INGEST_URL", "value": "http://elsewhere"}]);
    let injection = inject(&own, &validated()).expect("it can be injected");
    assert_eq!(injection.pod["spec"]["containers"][0]["env"], own["spec"]["containers"][0]["env"]);
    assert!(
        injection.warnings.iter().any(|warning| warning.contains("app sets LAKE_INGEST_URL")),
        "{:?}",
        injection.warnings
    );
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    refuses_with("take hostNetwork away", |pod| pod["spec"]["hostNetwork"] = json!(true));
    refuses_with("let a DaemonSet run it", |pod| {
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("hash");
    });
    refuses_with("Linux alone", |pod| pod["spec"]["os"] = json!({"name": "windows"}));
    refuses_with("Linux alone", |pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"}));
    refuses_with("rename it", |pod| pod["spec"]["containers"][0]["name"] = json!("lakeingest"));
    refuses_with("rename it", |pod| {
        pod["spec"]["initContainers"] = json!([{"name": "lakeingest", "args": ["migrate"]}]);
    });
    refuses_with("lakeingest.io/port", |pod| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}]));
    refuses_with("lakeingest-config", |pod| {
        pod["spec"]["volumes"] = json!([{"name": "lakeingest-config", "emptyDir": {}}])
    });
    refuses_with("spec.sidecar.port", |pod| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}]));
    refuses_with("spec.sidecar.healthPort", |pod| {
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8002}])
    });
    refuses_with("spec.sidecar.port", |pod| {
        pod["spec"]["initContainers"] = json!([{"name": "init", "ports": [{"containerPort": 8001}]}]);
    });
    refuses_with("not a pod", |pod| pod["spec"] = json!({}));
}

/// No annotation makes a stranger's container or volume ours.
#[test]
fn i10_what_has_our_names_must_be_what_we_would_add() {
    let marked = |change: fn(&mut Value)| {
        move |pod: &mut Value| {
            pod["metadata"]["annotations"][STATUS] = json!("{\"version\":1}");
            change(pod);
        }
    };
    refuses_with(
        "rename the container",
        marked(|pod| pod["spec"]["initContainers"] = json!([{"name": "lakeingest", "image": "busybox"}])),
    );
    refuses_with(
        "lakeingest-journal",
        marked(|pod| {
            pod["spec"]["volumes"] =
                json!([{"name": "lakeingest-journal", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
        }),
    );
}

/// A copy of the sidecar that would not do what the application is told.
#[test]
fn i10_a_sidecar_that_was_changed_is_no_sidecar() {
    let changed = |change: fn(&mut Value)| {
        let mut pod = injected(&pod());
        change(&mut pod["spec"]["initContainers"][0]);
        inject(&pod, &validated()).expect_err("it is another one").to_string()
    };
    fn set(sidecar: &mut Value, name: &str, value: &str) {
        let variables = sidecar["env"].as_array_mut().expect("it has some");
        let found = variables.iter_mut().find(|variable| variable["name"] == name).expect("it is told");
        found["value"] = json!(value);
    }
    for change in [
        (|sidecar| sidecar["command"] = json!(["sleep", "1d"])) as fn(&mut Value),
        |sidecar| set(sidecar, "LAKEINGEST_PORT", "9"),
        |sidecar| set(sidecar, "LAKEINGEST_JOURNAL_SIZE_LIMIT", "1Ti"),
        |sidecar| sidecar["ports"][0]["containerPort"] = json!(9_999),
    ] {
        let words = changed(change);
        assert!(words.contains("rename it") && words.contains("copied with its sidecar"), "{words}");
    }
}

/// Only a number is what a webhook has kept.
#[test]
fn a_mark_that_holds_nothing_keeps_no_grace_from_the_sidecar() {
    let mut marked = pod();
    marked["metadata"]["annotations"][ORIGINAL_GRACE] = json!("x");
    let marked = injected(&marked);
    assert_eq!(marked["spec"]["terminationGracePeriodSeconds"], 90);
    assert_eq!(marked["metadata"]["annotations"][ORIGINAL_GRACE], "30");
    assert_eq!(injected(&marked), marked);
}

/// What the API server fills in, and an image that a policy has put another registry in front of, are no strangers' work.
#[test]
fn an_injected_pod_with_defaults_filled_in_is_left_as_it_is() {
    let mut filled = injected(&pod());
    filled["spec"]["volumes"][2]["projected"]["defaultMode"] = json!(420);
    let sidecar = &mut filled["spec"]["initContainers"][0];
    sidecar["image"] = json!("mirror.example/lakeingest/sidecar:1");
    sidecar["imagePullPolicy"] = json!("IfNotPresent");
    sidecar["volumeMounts"][0]["recursiveReadOnly"] = json!("Disabled");
    assert_eq!(inject(&filled, &validated()).expect("it is ours").patch, Vec::<Value>::new());
}

#[test]
fn i10_a_copy_that_asks_for_another_lake_ingest_is_not_wired_from_the_first() {
    let copy = injected(&pod());
    let orders = validate(&ingest("orders", json!({})), &names()).expect("it is legal");
    let refusal = inject(&copy, &orders).expect_err("its sidecar is that of events").to_string();
    assert!(refusal.contains("\"orders\"") && refusal.contains("lakeingest-config"), "{refusal}");
}

/// What a pod was made with stays with it, whatever the LakeIngest says when its sidecar starts again.
#[test]
fn ports_and_sizes_of_the_pod_are_in_its_own_variables() {
    let pod = injected(&pod());
    let variable = |name: &str| {
        let all = items(&sidecar(&pod)["env"]);
        all.filter(|found| found["name"] == name).map(|found| found["value"].clone()).collect::<Vec<_>>()
    };
    for (name, value) in [
        ("LAKEINGEST_PORT", "8001"),
        ("LAKEINGEST_HEALTH_PORT", "8002"),
        ("LAKEINGEST_JOURNAL_SIZE_LIMIT", "2Gi"),
        ("LAKEINGEST_SCRATCH_SIZE_LIMIT", "1Gi"),
        ("LAKEINGEST_CREDENTIALS", "files"),
    ] {
        assert_eq!(variable(name), [json!(value)], "{name}");
    }
}

#[test]
fn a_grace_period_stays_a_number_that_the_api_server_reads() {
    let mut endless = pod();
    endless["spec"]["terminationGracePeriodSeconds"] = json!(i64::MAX);
    assert_eq!(injected(&endless)["spec"]["terminationGracePeriodSeconds"], json!(i64::MAX));
}

#[test]
fn a_proxy_that_is_an_ordinary_container_is_warned_of() {
    let mut meshed = pod();
    meshed["spec"]["containers"].as_array_mut().expect("a pod has containers").push(json!({"name": "istio-proxy"}));
    let warnings = inject(&meshed, &validated()).expect("it can be injected").warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("istio-proxy is no sidecar container")), "{warnings:?}");
}

#[test]
fn a_udp_port_of_the_same_number_is_no_conflict() {
    let mut udp = pod();
    udp["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001, "protocol": "UDP"}]);
    injected(&udp);
}

/// Invariant I4: `build` and `inject` are pure. A function can be as impure as what it can name: their sources name no
/// client, no clock, no chance, no environment, nothing that waits and nothing that is kept between two calls.
#[test]
fn i4_build_and_inject_can_name_nothing_impure() {
    let sources = [
        ("inject/mod.rs", include_str!("mod.rs")),
        ("inject/container.rs", include_str!("container.rs")),
        ("inject/wishes.rs", include_str!("wishes.rs")),
        ("inject/qos.rs", include_str!("qos.rs")),
        ("inject/amounts.rs", include_str!("amounts.rs")),
        ("inject/patch.rs", include_str!("patch.rs")),
        ("controller/build.rs", include_str!("../controller/build.rs")),
    ];
    let impure = [
        "Client",
        "Api<",
        "clock",
        "Utc",
        "Instant",
        "SystemTime",
        "rand",
        "std::env",
        "std::fs",
        "async",
        "await",
        "tokio",
        "OnceLock",
        "LazyLock",
        "thread_local",
        "Mutex",
        "Cell",
        "Atomic",
    ];
    for (name, source) in sources {
        // Words of comments are no code.
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in impure {
            assert!(!code.contains(word), "{name} names {word}");
        }
    }
    let signature = "pub fn build(ingest: &ValidatedIngest, held_by: Option<&str>) -> Resources<Prepared> {";
    assert!(include_str!("../controller/build.rs").contains(signature), "build cannot fail");
}
