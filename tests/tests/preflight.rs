//! `lakeingest-sidecar preflight`: whether a lake can be used, before anybody sends a record.

use std::process::Output;

use lakeingest_tests::calls::ingest;
use lakeingest_tests::on_both_kinds;
use lakeingest_tests::proxy::{Fault, Proxy};
use lakeingest_tests::site::{Site, sidecar_program, temporary_folder};
use lakeingest_tests::store::{Kind, Place};
use serde_json::{Value, json};
use xtask::servers::S3Access;

on_both_kinds! {
    a_bucket_that_can_be_used_has_nothing_more_afterwards,
    what_is_wrong_with_a_bucket_is_said_by_its_name,
}

/// The exit code and what was said on the standard output.
fn verdict(output: &Output) -> (Option<i32>, Value) {
    let said = String::from_utf8_lossy(&output.stdout);
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// A preflight of a bucket, with these arguments beside it.
fn preflight(access: &S3Access, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut program = sidecar_program();
    program.args(["preflight", "--lake", &format!("s3://{}", access.bucket)]).args(arguments);
    verdict(&program.envs(access.environment()).output().expect("the program can be run"))
}

#[test]
fn a_directory_that_can_be_used_is_left_as_it_was() {
    let (site, work) = (Site::local(), temporary_folder());
    let run = || {
        let mut program = sidecar_program();
        program.args(["preflight", "--lake", site.lake().location()]).arg("--work").arg(work.path());
        verdict(&program.output().expect("the program can be run"))
    };
    assert_eq!(run(), (Some(0), json!({"message": ""})));
    assert!(site.lake().objects().is_empty(), "{:?}", site.lake().objects());
    std::fs::remove_dir_all(site.lake_folder()).expect("it is there");
    std::fs::write(site.lake_folder(), "").expect("a file can be made");
    let mut program = sidecar_program();
    let output = program.args(["preflight", "--lake", site.lake().location()]).output().expect("it can be run");
    assert_eq!(output.status.code(), Some(2), "what is no lake at all is no verdict on one");
}

fn a_bucket_that_can_be_used_has_nothing_more_afterwards(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let lake = lakeingest_tests::lake::Lake::bucket(store.access());
    assert_eq!(preflight(store.access(), &[]), (Some(0), json!({"message": ""})));
    // The trial of what the endpoint promises stays, the same for every writer; the prefix is nobody's yet.
    let left = lake.objects();
    assert!(left.iter().all(|key| key.starts_with("data/_lakeingest/probe/")), "{left:?}");

    // Who may not delete can use the bucket all the same, and hears of it.
    let proxy = Proxy::start(store.access());
    proxy.always(Fault::Answer(403, "AccessDenied"), |head| head.method == "DELETE");
    let (code, said) = preflight(&proxy.access(store.access()), &[]);
    let message = said["message"].as_str().unwrap_or_default();
    assert!(code == Some(0) && message.contains("AccessDenied") && message.contains("does no harm"), "{said}");
}

fn what_is_wrong_with_a_bucket_is_said_by_its_name(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let access = store.access();
    let (proxy, nobody) = (Proxy::start(access), Proxy::start(access));
    nobody.go_down();
    proxy.always(Fault::Answer(403, "AccessDenied"), |head| head.method == "PUT");
    let missing = S3Access { bucket: "no-such-bucket".to_owned(), ..access.clone() };
    let wrong = S3Access { secret_key: "wrong".to_owned(), ..access.clone() };
    let site = Site::on(&lakeingest_tests::lake::Lake::bucket(access));
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    for (access, arguments, reason) in [
        (&missing, vec![], "BucketMissing"),
        (&wrong, vec![], "CredentialsInvalid"),
        (&nobody.access(access), vec![], "StorageUnreachable"),
        (&proxy.access(access), vec!["--prefix", "other"], "CredentialsInvalid"),
        (access, vec!["--owner", "stranger"], "PrefixInUse"),
    ] {
        let before = site.lake().objects();
        let (code, said) = preflight(access, &arguments);
        assert_eq!((code, &said["reason"]), (Some(69), &json!(reason)), "{said}");
        assert!(!said["message"].as_str().unwrap_or_default().contains(&access.secret_key), "{said}");
        assert_eq!(site.lake().objects(), before, "nothing is left behind");
    }
    assert_eq!(preflight(access, &[]).0, Some(0), "the owner's own preflight");
}
