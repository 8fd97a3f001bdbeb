//! When rows go to the lake, the orderly end, and the journal's bound.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use lakeingest_tests::calls::{
    body, flush, health, ingest, metric, post, reasons, stream, table_status, wait_for_health, wait_for_reason,
    wait_until_delivered,
};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Fate, Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, wait_for_end};
use lakeingest_tests::volume::Volume;
use rustix::process::Signal;
use serde_json::{Value, json};
use xtask::servers::Sidecar;
use xtask::wait::{self, Look};

fn sealed(sidecar: &Sidecar, reason: &str) -> String {
    metric(sidecar, &format!("lakeingest_sidecar_segments_sealed_total{{reason=\"{reason}\"}}")).to_string()
}

fn wait_for_published_rows(sidecar: &Sidecar, table: &str, rows: u64) {
    wait::until("the rows to be published", || {
        let seen = table_status(sidecar, table);
        Ok(if seen["published_rows"] == rows { Look::Ready(()) } else { Look::NotYet(seen.to_string()) })
    })
    .expect("they are published");
}

#[test]
fn rows_go_to_the_lake_at_their_count() {
    let site = Site::local().with_config("flush: {maxRows: 10, maxAge: 1h}\n");
    let sidecar = site.start();
    for n in 0..9 {
        stream(&sidecar, "events", &json!({"n": n}));
    }
    assert_eq!(table_status(&sidecar, "events")["buffered_rows"], 9);
    stream(&sidecar, "events", &json!({"n": 9}));
    wait_for_published_rows(&sidecar, "events", 10);
    assert_eq!(sealed(&sidecar, "rows"), "1");
    assert_eq!(site.lake().table("events").len(), 10);
}

#[test]
fn rows_go_to_the_lake_at_their_bytes() {
    let site = Site::local().with_config("flush: {maxBytes: 64Ki, maxAge: 1h}\n");
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"text": "x".repeat(40 << 10)}));
    assert_eq!(table_status(&sidecar, "events")["buffered_rows"], 1);
    stream(&sidecar, "events", &json!({"text": "y".repeat(40 << 10)}));
    wait_for_published_rows(&sidecar, "events", 2);
    assert_eq!(sealed(&sidecar, "bytes"), "1");
    assert_eq!(site.lake().table("events").len(), 2);
}

/// A hundred of them weigh more than the encoder may have in memory at one time.
#[test]
fn records_of_a_megabyte_go_to_the_lake_in_several_files() {
    let site = Site::local();
    let sidecar = site.start();
    let record = |number: u32| json!({"number": number, "text": "x".repeat(1_000_000)});
    for first in (0..105).step_by(7) {
        let records: Vec<Value> = (first..first + 7).map(record).collect();
        let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "long", "records": records}));
        assert_eq!(answer.status, 202, "{}", body(&answer));
    }
    flush(&sidecar);
    let mut numbers: Vec<u64> = site.lake().table("long").iter().filter_map(|row| row["number"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..105).collect::<Vec<_>>());
    assert_eq!(table_status(&sidecar, "long")["published_files"], 4);
}

/// A text that does not compress by much.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

/// A log file goes when every segment in it is in the lake; one row of a quiet table would hold all that came after it.
#[test]
fn a_quiet_table_does_not_keep_a_busy_one_from_its_room() {
    let config = "{flush: {maxAge: 1h, maxBytes: 4Mi}, buffer: {sizeLimit: 64Mi}}\n";
    let site = Site::local().with_config(config);
    let sidecar = site.start();
    stream(&sidecar, "quiet", &json!({"n": 1}));
    for batch in 0..90 {
        let text = noise(1_000_000, 2 * batch);
        wait::until("room in the journal", || {
            let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "busy", "record": {"text": text}}));
            Ok(if answer.status == 202 { Look::Ready(()) } else { Look::NotYet(answer.text()) })
        })
        .expect("the lake takes what comes");
    }
    assert_eq!(sealed(&sidecar, "journal"), "1");
    wait_for_published_rows(&sidecar, "quiet", 1);
    flush(&sidecar);
    let found = site.lake().query(&format!(
        "SELECT count(*), count(DISTINCT text) FROM read_parquet('{}/data/busy/**/*.parquet')",
        site.lake().location()
    ));
    assert_eq!(found.rows, [[json!(90), json!(90)]]);
}

/// Five times what the journal may take goes through it behind a table whose folder of the lake cannot be written, which sends
/// as well.
#[test]
fn a_table_that_cannot_be_delivered_leaves_the_others_their_room() {
    const ROUNDS: u64 = 130;
    let site = Site::local().with_config("{flush: {maxAge: 1s}, buffer: {sizeLimit: 32Mi}}\n");
    site.deny("waits");
    let sidecar = site.start();
    let padding = "x".repeat(1_000_000);
    for n in 0..ROUNDS {
        stream(&sidecar, "waits", &json!({"n": n}));
        ingest(&sidecar, "events", &[json!({"n": n, "padding": padding})]);
    }
    let seen = health(&sidecar);
    assert!(seen["journal"]["bytes"].as_u64() < seen["journal"]["cap_bytes"].as_u64(), "{seen}");
    assert_eq!(table_status(&sidecar, "waits")["published_rows"], 0);
    assert!(site.log().contains("wrote a log file anew"), "{}", site.log());
    // What waits is found by a start, in the files that were written anew.
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    let sidecar = site.start();
    assert_eq!(health(&sidecar)["backlog"]["rows"], ROUNDS);
    site.allow("waits");
    wait_until_delivered(&sidecar);
    for table in ["waits", "events"] {
        let found = site.lake().query(&format!(
            "SELECT count(*), count(DISTINCT n) FROM read_parquet('{}/data/{table}/**/*.parquet')",
            site.lake().location()
        ));
        assert_eq!(found.rows, [[json!(ROUNDS), json!(ROUNDS)]], "{table}");
    }
}

#[test]
fn a_client_that_is_faster_than_a_lake_that_is_well_is_told_to_slow_down() {
    let site = Site::local().with_config("{flush: {maxAge: 1h}, buffer: {sizeLimit: 32Mi}}\n");
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 0})]);
    let records: Vec<Value> = (0..7).map(|seed| json!({"text": noise(1_000_000, 2 * seed)})).collect();
    let request = json!({"table_name": "events", "records": records});
    let refused = (0..100).find_map(|_| {
        std::thread::scope(|scope| {
            let posts: Vec<_> = (0..8).map(|_| scope.spawn(|| post(&sidecar, "/ingest/stream", &request))).collect();
            let answers = posts.into_iter().map(|post| post.join().expect("the sidecar answers"));
            answers.filter(|answer| answer.status != 202).last()
        })
    });
    let refused = refused.expect("56 MB at once do not fit a journal of 25.6 MiB");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(body(&refused)["type"], "urn:lakeingest:problem:too-fast");
    assert_eq!(body(&refused)["outcome"], "refused");
    let retry_after = refused.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(retry_after.is_some_and(|seconds| (5..=60).contains(&seconds)), "{retry_after:?}");
    wait::until("room in the journal", || {
        let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "events", "record": {"n": 1}}));
        Ok(if answer.status == 202 { Look::Ready(()) } else { Look::NotYet(answer.text()) })
    })
    .expect("the lake takes what was buffered");
}

#[test]
fn rows_go_to_the_lake_at_their_age() {
    let site = Site::local().with_config("flush: {maxAge: 1s}\n");
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    assert_eq!(table_status(&sidecar, "events")["published_rows"], 0);
    wait_for_published_rows(&sidecar, "events", 1);
    assert_eq!(sealed(&sidecar, "age"), "1");
    assert_eq!(site.lake().table("events").len(), 1);
}

#[test]
fn ingest_takes_what_was_streamed_to_its_table_with_it_and_no_other_table() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    stream(&sidecar, "others", &json!({"n": 1}));
    let answer = ingest(&sidecar, "events", &[json!({"n": 2})]);
    assert_eq!(answer["rows"], 1);
    assert_eq!(site.lake().table("events").len(), 2);
    assert_eq!(site.lake().files("others"), Vec::<String>::new());
    assert_eq!(health(&sidecar)["backlog"]["rows"], 1);
}

#[test]
fn calls_that_arrive_together_share_a_file() {
    let site = Site::local();
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 0})]);
    std::thread::scope(|scope| {
        for n in 1..=16 {
            let sidecar = &sidecar;
            scope.spawn(move || ingest(sidecar, "events", &[json!({"n": n})]));
        }
    });
    assert_eq!(site.lake().table("events").len(), 17);
    let files = site.lake().files("events").len();
    assert!(files < 17, "{files} files for 17 calls");
}

#[test]
fn sigterm_brings_everything_into_the_lake_and_ends_well() {
    let site = Site::local();
    let sidecar = site.start();
    let ledger = Ledger::default();
    for sequence in 0..50 {
        ledger.stream(&sidecar, ["events", "orders"][usize::from(sequence % 2 == 0)], record(1, sequence));
    }
    assert_eq!(sidecar.stop().expect("it ends in time").code(), Some(0));
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 50);
    drop(sidecar);
    // The journal is empty: the next start finds nothing to do.
    let sidecar = site.start();
    assert_eq!(
        health(&sidecar)["backlog"],
        json!({"segments": 0, "rows": 0, "bytes": 0, "oldest_seconds": 0, "drain_seconds": 0.0})
    );
    assert!(!site.log().contains("recovered segment"));
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 50);
}

#[test]
fn sigterm_under_load_answers_every_request_and_keeps_every_promise() {
    let site = Site::local();
    let sidecar = site.start();
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        for producer in 0..4 {
            let (ledger, sidecar) = (&ledger, &sidecar);
            scope.spawn(move || {
                for sequence in 0.. {
                    let path = if sequence % 10 == 0 { "/ingest" } else { "/ingest/stream" };
                    match ledger.send(sidecar, path, "events", Shape::Record, &[record(producer, sequence)]) {
                        // It does not listen any more.
                        Err(_) => return,
                        Ok(answer) if matches!(answer.status, 200 | 202) => {}
                        Ok(answer) => {
                            assert_eq!(answer.status, 503, "{}", answer.text());
                            assert_eq!(body(&answer)["type"], "urn:lakeingest:problem:draining");
                            assert!(answer.header("retry-after").is_some());
                            return;
                        }
                    }
                }
            });
        }
        wait_for_health(&sidecar, "some load", |_| (ledger.count(Fate::Acknowledged) > 100).then_some(()));
        assert_eq!(sidecar.stop().expect("it ends in time").code(), Some(0));
    });
    let tally = verify(&ledger, site.lake());
    assert_eq!(tally.acknowledged, ledger.count(Fate::Acknowledged));
}

#[test]
fn sigterm_with_the_lake_away_ends_with_75_and_the_next_start_delivers_once() {
    let site = Site::local();
    let sidecar = site.start();
    let ledger = Ledger::default();
    ledger.send(&sidecar, "/ingest", "events", Shape::Record, &[record(1, 0)]).expect("the lake is there");
    for sequence in 1..20 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    site.take_lake_away();
    sidecar.server().signal(Signal::TERM).expect("it can be signalled");
    // It waits for the lake, and says so; a second SIGTERM says nothing new, an interrupt ends the wait.
    wait_for_health(&sidecar, "the drain that cannot end", |health| {
        (health["status"] == "draining" && health["reasons"] != json!([])).then_some(())
    });
    assert_eq!(sidecar.get_health("/livez").expect("it answers").status, 200);
    assert_eq!(sidecar.get_health("/readyz").expect("it answers").status, 503);
    sidecar.server().signal(Signal::TERM).expect("it can be signalled");
    assert_eq!(sidecar.get_health("/livez").expect("it answers").status, 200);
    sidecar.server().signal(Signal::INT).expect("it can be signalled");
    assert_eq!(wait_for_end(&sidecar).code(), Some(75));
    assert!(site.log().contains("ended with rows in the journal"));
    drop(sidecar);

    site.bring_lake_back();
    let sidecar = site.start();
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
}

#[test]
fn a_full_journal_refuses_with_retry_after_until_the_lake_takes_more() {
    let site = Site::local().with_config("{flush: {maxAge: 1s}, buffer: {sizeLimit: 32Mi}}\n");
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 0})]);
    site.take_lake_away();
    let text = "x".repeat(1_000_000);
    let body_of = |first: u64| -> Value {
        let records: Vec<Value> = (first..first + 5).map(|n| json!({"n": n, "text": text})).collect();
        json!({"table_name": "events", "records": records})
    };
    let (mut accepted, mut sent) = (0, 1);
    let refused = loop {
        let answer = post(&sidecar, "/ingest/stream", &body_of(sent));
        if answer.status != 202 {
            break answer;
        }
        accepted += 5;
        sent += 5;
        assert!(sent < 100, "32 MiB of disk have taken {accepted} MB");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(body(&refused)["type"], "urn:lakeingest:problem:journal-full");
    assert_eq!(body(&refused)["outcome"], "refused");
    let retry_after = refused.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(retry_after.is_some_and(|seconds| (5..=60).contains(&seconds)), "{retry_after:?}");
    assert!((15..=25).contains(&accepted), "{accepted} MB of 25.6 MiB were taken");
    assert!(reasons(&sidecar).contains(&"JournalFull".to_owned()));
    // A record for which there is room still makes no room for others.
    stream(&sidecar, "events", &json!({"n": 10_000}));
    assert!(reasons(&sidecar).contains(&"JournalFull".to_owned()));
    let seen = health(&sidecar);
    assert!(seen["journal"]["bytes"].as_u64() <= seen["journal"]["cap_bytes"].as_u64(), "{seen}");
    // I8: full is not dead and not unready.
    for path in ["/livez", "/readyz"] {
        assert_eq!(sidecar.get_health(path).expect("it answers").status, 200, "{path}");
    }

    site.bring_lake_back();
    // Nobody has to send anything for the reason to go.
    wait_until_delivered(&sidecar);
    let answer = post(&sidecar, "/ingest/stream", &body_of(1_000));
    assert_eq!(answer.status, 202, "{}", answer.text());
    flush(&sidecar);
    wait_until_delivered(&sidecar);
    let found = site.lake().query(&format!(
        "SELECT count(*), count(DISTINCT n) FROM read_parquet('{}/data/events/**/*.parquet', union_by_name = true)",
        site.lake().location()
    ));
    let expected = json!(1 + accepted + 1 + 5);
    assert_eq!(found.rows, [[expected.clone(), expected]]);
}

#[test]
fn a_lake_that_goes_away_is_told_and_used_again_at_once() {
    let site = Site::local();
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    site.take_lake_away();
    let answer = post(&sidecar, "/ingest?wait=0", &json!({"table_name": "events", "records": [{"n": 2}]}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let message = wait_for_reason(&sidecar, "BucketMissing");
    assert!(message.contains("does not exist"), "{message}");
    // What was made in its place would hide that it is away.
    assert!(!site.lake_folder().is_dir());
    site.bring_lake_back();
    wait_until_delivered(&sidecar);
    assert_eq!(site.lake().table("events").len(), 2);
}

/// Goal: what waits for a table that cannot be delivered is not held against the others. Method: a table whose object of the
/// registry no build has written gets more segments than may wait; another table is asked for, and grows old.
#[test]
fn a_table_that_cannot_be_delivered_keeps_no_other_from_the_lake() {
    let site = Site::local().with_config("flush: {maxAge: 2s}\n");
    let sidecar = site.start();
    ingest(&sidecar, "broken", &[json!({"n": 0})]);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
    drop(sidecar);
    let schema = site.lake_folder().join("data/_lakeingest/schemas/broken/1.json");
    let whole = fs::read(&schema).expect("the table was registered");
    fs::write(&schema, "{").expect("it can be written");

    let sidecar = site.start();
    let mut sent = 1;
    wait_for_health(&sidecar, "as many segments as may wait, and an open one", |health| {
        let answer = post(&sidecar, "/ingest?wait=0", &json!({"table_name": "broken", "record": {"n": sent}}));
        assert_eq!(answer.status, 202, "{}", answer.text());
        sent += 1;
        health["backlog"]["segments"].as_u64().filter(|segments| *segments > 64)
    });
    for number in 1..=3 {
        ingest(&sidecar, "well", &[json!({"n": number})]);
    }
    stream(&sidecar, "well", &json!({"n": 4}));
    wait_for_published_rows(&sidecar, "well", 4);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);

    fs::write(&schema, whole).expect("it can be written");
    wait_until_delivered(&site.start());
    assert_eq!((site.lake().table("broken").len(), site.lake().table("well").len()), (sent, 4));
}

/// Writes to a file until its file system has no space.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("the file can be made");
    let error = loop {
        if let Err(error) = file.write(&[1; 1 << 12]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

/// Whoever reads the reason learns what is full, and where, and what to do; then everything goes on by itself.
#[test]
fn a_scratch_volume_without_space_is_told_in_words_and_used_again() {
    let volume = Volume::make();
    let mut site = Site::local().with_config("flush: {maxAge: 1s}\n");
    let (scratch, stranger) = (volume.path().join("scratch"), volume.path().join("stranger"));
    site.options.scratch = Some(scratch.clone());
    let sidecar = site.start();
    fill(&stranger);
    stream(&sidecar, "events", &json!({"text": noise(100_000, 1)}));
    let message = wait_for_reason(&sidecar, "ScratchFailed");
    assert!(message.contains(&format!("the volume of the scratch directory {}/", scratch.display())), "{message}");
    assert!(message.contains("is full") && message.contains("buffer.scratchSizeLimit"), "{message}");
    fs::remove_file(&stranger).expect("it can be removed");
    wait_until_delivered(&sidecar);
    assert_eq!(site.lake().table("events").len(), 1);
}

#[test]
fn a_directory_lake_without_space_is_told_in_words_and_used_again() {
    let volume = Volume::make();
    let (lake, stranger) = (volume.path().join("lake"), volume.path().join("stranger"));
    fs::create_dir(&lake).expect("a folder can be made");
    let site = Site::on(&Lake::directory(&lake)).with_config("flush: {maxAge: 1s}\n");
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"text": "first"})]);
    fill(&stranger);
    stream(&sidecar, "events", &json!({"text": noise(100_000, 1)}));
    let message = wait_for_reason(&sidecar, "StorageUnreachable");
    assert!(message.contains("the file system that the lake lies on is full"), "{message}");
    assert!(message.contains(&lake.display().to_string()), "{message}");
    fs::remove_file(&stranger).expect("it can be removed");
    wait_until_delivered(&sidecar);
    assert_eq!(site.lake().table("events").len(), 2);
}
