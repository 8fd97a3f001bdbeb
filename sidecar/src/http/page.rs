//! `GET /`: how the sidecar is, for a person with a browser.
//!
//! Owns: the page. It runs no script and loads nothing. Does not own: the facts (`report`).

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use crate::http::problem::ProblemsOfReports;
use crate::http::report::{Health, Tables, health_of, tables_of};
use crate::http::state::Shared;
use crate::limits::TABLES_IN_ANSWER_MAX;

/// Nothing but the page's own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const STYLE: &str = "body{font:15px system-ui,sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}\
                     td,th{text-align:left;padding:.3em .8em;border-bottom:1px solid #ccc;vertical-align:top}";

/// `GET /`: a page for people.
#[utoipa::path(
    get,
    path = "/",
    responses(
        (status = 200, description = "How the sidecar is.", body = String, content_type = "text/html; charset=utf-8"),
        ProblemsOfReports,
    ),
)]
pub(super) async fn page(state: State<Shared>) -> Response {
    let page = written(&health_of(&state.0), &tables_of(&state.0, "", TABLES_IN_ANSWER_MAX));
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, page).into_response()
}

fn written(health: &Health, tables: &Tables) -> String {
    let mut page = format!("<!doctype html><html lang=\"en\"><title>LakeIngest</title><style>{STYLE}</style>");
    let backlog = &health.backlog;
    // Writing to a text does not fail.
    let _ = write!(
        page,
        "<h1>LakeIngest: {}</h1><p>{} rows wait for the lake, the oldest for {} s; bringing them there takes about {} s.</p>",
        health.status, backlog.rows, backlog.oldest_seconds, backlog.drain_seconds
    );
    for reason in &health.reasons {
        let (scope, message) = (escaped(&reason.scope), escaped(&reason.message));
        let _ = write!(page, "<p><b>{}</b> {scope} since {}: {message}</p>", reason.name, escaped(&reason.since));
    }
    page.push_str("<table><tr><th>table<th>columns<th>buffered rows<th>published rows<th>files<th>quarantined");
    for table in &tables.tables {
        let columns = table.columns.iter().map(|column| format!("{} {}", column.name, column.r#type));
        let columns = escaped(&columns.collect::<Vec<_>>().join(", "));
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{columns}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            escaped(&table.name),
            table.buffered_rows,
            table.published_rows,
            table.published_files,
            table.quarantined_rows
        );
    }
    page.push_str("</table>");
    if let Some(next) = &tables.next {
        let _ = write!(
            page,
            "<p>There are more tables: <a href=\"/tables?next={0}\">those behind {0}</a>.</p>",
            escaped(next)
        );
    }
    page.push_str("<p><a href=\"/health\">health</a> <a href=\"/tables\">tables</a> <a href=\"/metrics\">metrics</a> <a href=\"/openapi.json\">API</a></p></html>\n");
    page
}

/// A text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_written_is_no_markup() {
        assert_eq!(escaped("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
