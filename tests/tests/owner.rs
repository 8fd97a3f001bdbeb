//! Whose a prefix is: a stranger writes nothing, the same owner shares.

use std::collections::BTreeMap;
use std::fs;

use lakeingest_tests::calls::{
    flush, health, ingest, post, reasons, stream, wait_for_health, wait_for_reason, wait_until_delivered,
};
use lakeingest_tests::ledger::{Ledger, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
use serde_json::json;
use xtask::servers::Sidecar;

/// Every object of a lake that is a directory, with its content.
fn contents(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let objects = site.lake().objects().into_iter();
    objects.map(|key| (key.clone(), fs::read(site.lake_folder().join(key)).expect("it can be read"))).collect()
}

#[test]
fn a_prefix_of_another_owner_is_told_and_nothing_is_written_to_it() {
    let first = Site::local();
    let sidecar = first.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    let before = contents(&first);
    assert!(before.contains_key("data/_lakeingest/owner.json"));

    let mut second = Site::on(first.lake()).with_config("flush: {maxAge: 1s}\n");
    second.options.owner = Some("stranger".to_owned());
    let stranger = second.start();
    // A new table, an old one, and a new column.
    stream(&stranger, "events", &json!({"n": 2, "new": "x"}));
    stream(&stranger, "others", &json!({"n": 3}));
    let message = wait_for_reason(&stranger, "PrefixInUse");
    assert!(message.contains("data belongs to local"), "{message}");
    assert_eq!(stranger.get_health("/readyz").expect("it answers").status, 200);
    let answer = post(&stranger, "/flush?wait=2", &json!({}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(health(&stranger)["backlog"]["rows"], 2);
    assert_eq!(contents(&first), before);
    assert_eq!(health(&sidecar)["status"], "ok");
    stranger.kill().expect("it can be killed");
    drop(stranger);
    assert_eq!(contents(&first), before);

    // Under the owner's name it delivers what it has acknowledged.
    second.options.owner = None;
    let sidecar = second.start();
    wait_until_delivered(&sidecar);
    assert_eq!(first.lake().table("events").len(), 2);
    assert_eq!(first.lake().table("others").len(), 1);
}

#[test]
fn a_prefix_that_is_given_free_is_used() {
    let first = Site::local();
    let sidecar = first.start();
    wait_for_owner(&first, &sidecar);
    sidecar.stop().expect("it ends");
    let mut second = Site::on(first.lake());
    second.options.owner = Some("stranger".to_owned());
    let stranger = second.start();
    stream(&stranger, "events", &json!({"n": 1}));
    wait_for_reason(&stranger, "PrefixInUse");
    fs::remove_file(first.lake_folder().join("data/_lakeingest/owner.json")).expect("it is there");
    wait_for_health(&stranger, "the contact", |health| (health["status"] == "ok").then_some(()));
    flush(&stranger);
    assert_eq!(reasons(&stranger), Vec::<String>::new());
    assert_eq!(first.lake().table("events").len(), 1);
}

#[test]
fn a_prefix_is_taken_over_by_name_and_keeps_its_tables() {
    let first = Site::local();
    let (ledger, sidecar) = (Ledger::default(), first.start());
    ledger.stream(&sidecar, "events", record(1, 0));
    flush(&sidecar);
    sidecar.stop().expect("it ends");

    let config = "storage: {takeOverFrom: somebody}\nflush: {maxAge: 1s}\n";
    let mut second = Site::on(first.lake()).with_config(config);
    second.options.owner = Some("heir".to_owned());
    let heir = second.start();
    ledger.stream(&heir, "events", record(2, 0));
    let message = wait_for_reason(&heir, "PrefixInUse");
    assert!(message.contains("belongs to local") && message.contains("storage.takeOverFrom: local"), "{message}");
    // The name is read again with each attempt.
    fs::write(second.options.config.as_ref().expect("it has one"), config.replace("somebody", "local"))
        .expect("it is written");
    wait_until_delivered(&heir);
    assert!(second.log().contains("taking the prefix over"), "{}", second.log());
    assert_eq!(verify(&ledger, first.lake()).acknowledged, 2);
    assert_eq!(first.lake().table("events").len(), 2);

    let former = first.start();
    ledger.stream(&former, "events", record(1, 1));
    let message = wait_for_reason(&former, "PrefixInUse");
    assert!(message.contains("belongs to heir") && message.contains("owner-2.json"), "{message}");
    // It could not deliver at its end, and would wait for that.
    former.kill().expect("it can be killed");
    drop(heir);
    // It has the prefix by what the lake says, not by its configuration.
    let second = second.with_config("flush: {maxAge: 1s}\n");
    let heir = second.start();
    ledger.stream(&heir, "events", record(2, 1));
    wait_until_delivered(&heir);
}

/// Waits until the first contact has been made.
fn wait_for_owner(site: &Site, sidecar: &Sidecar) {
    wait_for_health(sidecar, "the owner's object", |_| {
        site.lake().objects().contains("data/_lakeingest/owner.json").then_some(())
    });
}

#[test]
fn the_same_owner_shares_a_prefix() {
    let first = Site::local();
    let second = Site::on(first.lake());
    let (one, two) = (first.start(), second.start());
    let ledger = Ledger::default();
    for sequence in 0..30 {
        ledger.stream(&one, "events", record(1, sequence));
        ledger.stream(&two, "events", record(2, sequence));
    }
    flush(&one);
    flush(&two);
    assert_eq!(verify(&ledger, first.lake()).acknowledged, 60);
}

#[test]
fn each_owner_has_a_prefix_of_its_own_in_one_lake() {
    let first = Site::local();
    let sidecar = first.start();
    let mut second = Site::on(first.lake()).with_config("storage: {prefix: team-b/lake}\n");
    second.options.owner = Some("team-b".to_owned());
    let other = second.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    let answer = ingest(&other, "events", &[json!({"n": "text"})]);
    let file = answer["files"][0].as_str().expect("a file is text");
    assert!(file.contains("/team-b/lake/events/year="), "{file}");
    assert_eq!(first.lake().table("events").len(), 1);
    assert_eq!(reasons(&other), Vec::<String>::new());
}
