//! A configuration that changes under a running sidecar.

use std::fs;

use lakeingest_tests::calls::{
    body, flush, health, ingest, post, reasons, stream, table_status, wait_for_health, wait_for_reason,
    wait_until_delivered,
};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::servers::Sidecar;

/// Replaces the file as the kubelet does: at once.
fn change(site: &Site, yaml: &str) {
    let path = site.options.config.as_ref().expect("the site has a configuration");
    let next = path.with_extension("next");
    fs::write(&next, yaml).expect("it can be written");
    fs::rename(&next, path).expect("it can take its place");
}

fn wait_for_generation(sidecar: &Sidecar, generation: i64) {
    wait_for_health(sidecar, "the new configuration", |health| (health["generation"] == generation).then_some(()));
}

fn statuses(sidecar: &Sidecar, records: &[Value]) -> Vec<u16> {
    let status = |record| post(sidecar, "/ingest/stream", &json!({"table_name": "orders", "record": record})).status;
    records.iter().map(status).collect()
}

#[test]
fn tables_and_the_flush_policy_change_without_a_restart_and_nothing_is_lost() {
    let site = Site::local().with_config("generation: 1\nflush: {maxRows: 1000, maxAge: 1h}\n");
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    stream(&sidecar, "orders", &json!({"id": 1, "note": "free"}));

    // What waits is sealed by the policy of now.
    change(&site, "generation: 2\nflush: {maxRows: 1, maxAge: 1h}\n");
    wait_for_generation(&sidecar, 2);
    wait_until_delivered(&sidecar);
    assert_eq!(site.lake().table("orders").len(), 1);

    let declared = "
flush: {maxAge: 1h}
tables:
- name: orders
  columns: [{name: id, type: bigint, nullable: false}, {name: price, type: 'decimal(9,2)'}]
  onUnknownColumn: reject
onUndeclaredTable: reject
";
    stream(&sidecar, "others", &json!({"n": 1}));
    change(&site, &format!("generation: 3{declared}"));
    wait_for_generation(&sidecar, 3);
    let columns = table_status(&sidecar, "orders")["columns"].clone();
    let columns =
        columns.as_array().into_iter().flatten().map(|column| format!("{} {}", column["name"], column["type"]));
    let columns: Vec<String> = columns.map(|column| column.replace('"', "")).collect();
    assert_eq!(columns, ["id bigint", "note varchar", "price decimal(9,2)"]);
    assert_eq!(statuses(&sidecar, &[json!({"id": 2, "price": "1.50"}), json!({"id": 3, "stranger": 1})]), [202, 422]);
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "others", "record": {"n": 2}}));
    assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (422, &json!("table-undeclared")));

    // Back to no declaration: the table has what its files have.
    change(&site, "generation: 4\nflush: {maxAge: 1h}\n");
    wait_for_generation(&sidecar, 4);
    ingest(&sidecar, "orders", &[json!({"id": 4, "stranger": 1})]);
    ingest(&sidecar, "others", &[json!({"n": 3})]);
    flush(&sidecar);
    let mut ids: Vec<_> = site.lake().table("orders").iter().map(|row| row["id"].clone()).collect();
    ids.sort_by_key(Value::as_i64);
    assert_eq!(ids, [json!(1), json!(2), json!(4)]);
    assert_eq!(site.lake().table("others").len(), 2);
    assert_eq!(reasons(&sidecar), Vec::<String>::new());
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing_and_says_so_until_it_can() {
    let of_orders = "tables: [{name: orders, columns: [{name: id, type: bigint}], onUnknownColumn: reject";
    let site = Site::local().with_config(&format!("generation: 1\n{of_orders}}}]\n"));
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    for (wrong, words) in [
        ("generation: 2\nflush: {maxRows: 0}\n".to_owned(), "flush.maxRows"),
        ("generation: [\n".to_owned(), "failed to parse"),
        (
            format!("generation: 2\n{of_orders}, transform: SELECT id FROM batch LIMIT 1}}]\n"),
            "tables[orders].transform",
        ),
    ] {
        change(&site, &wrong);
        let message = wait_for_health(&sidecar, words, |health| {
            let reasons = health["reasons"].as_array()?;
            let message =
                reasons.iter().find(|reason| reason["name"] == "ConfigurationInvalid")?["message"].as_str()?;
            message.contains(words).then(|| message.to_owned())
        });
        assert!(message.contains("the one of before holds"), "{message}");
        assert_eq!(health(&sidecar)["generation"], json!(1));
        assert_eq!(statuses(&sidecar, &[json!({"id": 1}), json!({"stranger": 1})]), [202, 422]);
    }

    // What takes effect at a start alone is said, and the rest is taken in.
    change(&site, "generation: 3\nbuffer: {sizeLimit: 1Gi}\n");
    wait_for_generation(&sidecar, 3);
    assert!(wait_for_reason(&sidecar, "RestartNeeded").contains("buffer"));
    assert_eq!(statuses(&sidecar, &[json!({"stranger": 1})]), [202]);
    change(&site, "generation: 4\nunheard: of\n");
    wait_for_generation(&sidecar, 4);
    assert_eq!(reasons(&sidecar), ["UnknownConfiguration"]);
    change(&site, "generation: 5\n");
    wait_for_generation(&sidecar, 5);
    assert_eq!(reasons(&sidecar), Vec::<String>::new());
    flush(&sidecar);
    assert_eq!(site.lake().table("orders").len(), 4);
}

/// What is wrong may be elsewhere than in the file, and pass while the file stays as it is.
#[test]
fn a_configuration_that_could_not_be_used_for_a_while_is_taken_in_when_it_can() {
    let site = Site::local().with_config("generation: 1\n");
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    let lake = std::path::PathBuf::from(site.lake().location());
    let elsewhere = lake.with_extension("away");
    fs::rename(&lake, &elsewhere).expect("the lake can be taken away");
    change(&site, "generation: 2\n");
    wait_for_reason(&sidecar, "ConfigurationInvalid");
    assert_eq!(health(&sidecar)["generation"], json!(1));
    fs::rename(&elsewhere, &lake).expect("the lake can be brought back");
    wait_for_generation(&sidecar, 2);
}

/// What was accepted before a declaration came has the types that it was accepted with, and so has what comes after it: a
/// column has one type.
#[test]
fn a_declaration_of_other_types_does_not_set_aside_what_was_accepted_before_it() {
    for is_restarted in [false, true] {
        let site = Site::local().with_config("generation: 1\nflush: {maxAge: 1h}\n");
        let mut sidecar = site.start();
        wait_for_generation(&sidecar, 1);
        let records: Vec<_> = (0..20).map(|id| json!({"Note": format!("text {id}"), "id": id})).collect();
        let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "orders", "records": records}));
        assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(0)), "{}", answer.text());
        let columns = "[{name: id, type: varchar}, {name: note, type: timestamp}, {name: price, type: double}]";
        change(
            &site,
            &format!("generation: 2\nflush: {{maxAge: 1h}}\ntables: [{{name: orders, columns: {columns}}}]\n"),
        );
        if is_restarted {
            sidecar.kill().expect("it can be killed");
            drop(sidecar);
            sidecar = site.start();
        }
        wait_for_generation(&sidecar, 2);
        let later = json!({"id": 20, "Note": "text 20", "price": 1.5});
        let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "orders", "record": later}));
        assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(0)), "{}", answer.text());
        flush(&sidecar);
        let mut ids: Vec<_> = site.lake().table("orders").iter().map(|row| row["id"].as_i64()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..=20).map(Some).collect::<Vec<_>>(), "restarted: {is_restarted}");
        let columns = table_status(&sidecar, "orders")["columns"].to_string();
        assert!(columns.contains(r#"{"name":"id","type":"bigint"}"#), "{columns}");
        wait_for_reason(&sidecar, "SchemaConflict");
        drop(sidecar);
    }
}

/// The rows of a table are computed by the statement of their time when it changes under the process, too.
#[test]
fn a_transform_that_changes_holds_for_what_comes_after_it() {
    let with = |generation: u8, select: &str| {
        let columns = "columns: [{name: id, type: bigint}], onUnknownColumn: quarantine";
        format!(
            "generation: {generation}\nflush: {{maxAge: 1h}}\ntables: [{{name: orders, {columns}, transform: '{select}'}}]\n"
        )
    };
    let site = Site::local().with_config(&with(1, "SELECT id * 10 AS id FROM batch"));
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    stream(&sidecar, "orders", &json!({"id": 1}));
    change(&site, &with(2, "SELECT id * 100 AS id, id AS original FROM batch"));
    wait_for_generation(&sidecar, 2);
    stream(&sidecar, "orders", &json!({"id": 2}));
    change(&site, "generation: 3\nflush: {maxAge: 1h}\n");
    wait_for_generation(&sidecar, 3);
    stream(&sidecar, "orders", &json!({"id": 3, "free": true}));
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let rows: Vec<_> = rows.iter().map(|row| ["id", "original", "free"].map(|name| row[name].clone())).collect();
    let null = Value::Null;
    assert_eq!(
        rows,
        [[json!(3), null.clone(), json!(true)], [json!(10), null.clone(), null.clone()], [json!(200), json!(2), null],]
    );
}

#[test]
fn a_configuration_whose_file_is_gone_is_said_until_it_is_back() {
    let site = Site::local().with_config("generation: 1\n");
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    let path = site.options.config.as_ref().expect("the site has a configuration");
    fs::remove_file(path).expect("it is there");
    let message = wait_for_reason(&sidecar, "ConfigurationInvalid");
    assert!(message.contains("cannot be read; the one of before holds"), "{message}");
    stream(&sidecar, "orders", &json!({"id": 1}));
    // As it was: there is nothing to take in.
    change(&site, "generation: 1\n");
    wait_for_health(&sidecar, "no reason", |health| (health["reasons"] == json!([])).then_some(()));
    assert_eq!(health(&sidecar)["generation"], json!(1));
}

/// Goal: how long an announced end is believed is what is configured now. Method: one that is announced under a long time, which
/// becomes a short one.
#[test]
fn an_announced_end_is_believed_for_as_long_as_is_configured_now() {
    let with = |generation: u8, seconds: u16| {
        format!("generation: {generation}\nflush: {{maxAge: 1h}}\ndrain: {{gracePeriodSeconds: {seconds}}}\n")
    };
    let site = Site::local().with_config(&with(1, 600));
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    let answer = sidecar.post("/drain", None, "").expect("the sidecar answers");
    assert_eq!(answer.status, 202, "{}", answer.text());
    wait_for_health(&sidecar, "the end", |health| (health["reasons"][0]["name"] == "PodEnding").then_some(()));
    change(&site, &with(2, 1));
    wait_for_health(&sidecar, "that it did not come", |health| (health["reasons"] == json!([])).then_some(()));
    assert!(site.log().contains("the end of the pod was announced and did not come"), "{}", site.log());
}

/// A column that was declared by mistake was once in force until the process started again.
#[test]
fn a_column_that_is_declared_no_more_is_gone_as_at_a_start() {
    let with = |generation: u8, column: &str| {
        let columns = format!("[{{name: id, type: bigint}}, {{name: {column}, type: bigint}}]");
        format!("generation: {generation}\ntables: [{{name: orders, columns: {columns}, onUnknownColumn: reject}}]\n")
    };
    let site = Site::local().with_config(&with(1, "amuont"));
    let sidecar = site.start();
    wait_for_generation(&sidecar, 1);
    change(&site, &with(2, "amount"));
    wait_for_generation(&sidecar, 2);
    let records = [json!({"id": 1, "amuont": 5}), json!({"id": 2, "amount": 5})];
    assert_eq!(statuses(&sidecar, &records), [422, 202]);
    flush(&sidecar);
    let rows = site.lake().table("orders");
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains_key("amuont"), "{rows:?}");
}
