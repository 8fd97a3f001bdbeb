//! The calls that most tests make, and waiting for what the sidecar says of itself.
//!
//! Owns: their words. Does not own: what a test expects of them.

use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};
use xtask::wait::{self, Look};

/// Sends one record to `/ingest/stream`, which must acknowledge it; gives the answer's body.
pub fn stream(sidecar: &Sidecar, table: &str, record: &Value) -> Value {
    let answer = post(sidecar, "/ingest/stream", &json!({"table_name": table, "record": record}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    body(&answer)
}

/// Sends records to `/ingest`, which must bring them into the lake; gives the answer's body.
pub fn ingest(sidecar: &Sidecar, table: &str, records: &[Value]) -> Value {
    let answer = post(sidecar, "/ingest", &json!({"table_name": table, "records": records}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    body(&answer)
}

/// Flushes everything; it must all be in the lake then.
pub fn flush(sidecar: &Sidecar) -> Value {
    let answer = post(sidecar, "/flush?wait=60", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    body(&answer)
}

/// Sends JSON to a path, whatever the answer.
pub fn post(sidecar: &Sidecar, path: &str, body: &Value) -> Response {
    sidecar.post(path, Some("application/json"), body.to_string()).expect("the sidecar answers")
}

/// A body that is JSON.
pub fn body(answer: &Response) -> Value {
    answer.json().expect("the body is JSON")
}

/// What `/health` says.
pub fn health(sidecar: &Sidecar) -> Value {
    let answer = sidecar.get_health("/health").expect("the sidecar answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    body(&answer)
}

/// Names of the reasons in `/health`.
pub fn reasons(sidecar: &Sidecar) -> Vec<String> {
    let health = health(sidecar);
    let reasons = health["reasons"].as_array().expect("reasons is an array");
    reasons.iter().map(|reason| reason["name"].as_str().expect("a reason has a name").to_owned()).collect()
}

/// Waits until `/health` is degraded for this reason; gives its message.
pub fn wait_for_reason(sidecar: &Sidecar, name: &str) -> String {
    wait_for_health(sidecar, &format!("the reason {name}"), |health| {
        let reasons = health["reasons"].as_array()?;
        let reason = reasons.iter().find(|reason| reason["name"] == name)?;
        assert_eq!(health["status"], "degraded");
        Some(reason["message"].as_str().expect("a reason has a message").to_owned())
    })
}

/// Waits until nothing is wrong and nothing waits for the lake.
pub fn wait_until_delivered(sidecar: &Sidecar) {
    wait_for_health(sidecar, "an empty backlog", |health| {
        (health["status"] == "ok" && health["backlog"]["rows"] == 0).then_some(())
    });
}

/// Waits until `look` finds in `/health` what it looks for.
pub fn wait_for_health<T>(sidecar: &Sidecar, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
    wait::until(what, || {
        sidecar.server().ensure_running()?;
        let health = health(sidecar);
        Ok(look(&health).map_or_else(|| Look::NotYet(health.to_string()), Look::Ready))
    })
    .expect("the sidecar gets there")
}

/// What `/tables` says of a table.
pub fn table_status(sidecar: &Sidecar, table: &str) -> Value {
    let answer = sidecar.get("/tables").expect("the sidecar answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tables = body(&answer);
    let tables = tables["tables"].as_array().expect("tables is an array");
    tables.iter().find(|entry| entry["name"] == table).cloned().unwrap_or(Value::Null)
}

/// The value of one line of `/metrics`, named with its labels; 0 when there is no such line.
pub fn metric(sidecar: &Sidecar, name: &str) -> f64 {
    let answer = sidecar.get_health("/metrics").expect("the sidecar answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a metric is a number"))
}
