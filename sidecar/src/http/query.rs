//! A request's query.
//!
//! Owns: decoding it, and refusing what an endpoint does not know: a misspelt option must not be passed over.
//! Does not own: what an option means.

use std::time::Duration;

use http::Uri;

use crate::http::problem::Problem;
use crate::limits::LAKE_WAIT_MAX;

/// The options of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// The query of a request to an endpoint that knows `known`.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(uri)
            .map(|axum::extract::Query(pairs)| pairs)
            .map_err(|_| Problem::at("?", "malformed-query", "the query cannot be decoded"))?;
        for (place, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = format!("the query has an option that is not known; known are {}", known.join(", "));
                return Err(Problem::at("?", "unknown-option", detail));
            }
            if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::at(&format!("?{name}"), "duplicate-option", format!("{name} is given twice")));
            }
        }
        Ok(Self { pairs })
    }

    /// The value of an option.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of `wait`: seconds, or a duration with a unit.
    pub(super) fn wait(&self) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.get("wait") else { return Ok(None) };
        let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
        let duration = seconds.or_else(|| text.parse::<lakeingest_crds::Seconds>().ok().map(|wait| wait.duration()));
        match duration.filter(|duration| *duration <= LAKE_WAIT_MAX) {
            Some(duration) => Ok(Some(duration)),
            None => {
                let detail = format!("wait must be 0 to {} seconds, for example 30 or 500ms", LAKE_WAIT_MAX.as_secs());
                Err(Problem::at("?wait", "illegal-value", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &'static str) -> Result<Query, Problem> {
        let uri = Uri::builder().path_and_query(format!("/ingest?{query}")).build().expect("the test's query is legal");
        Query::parse(&uri, &["wait", "table_name"])
    }

    #[test]
    fn options_are_decoded() {
        let query = parse("table_name=a%5Fb&wait=500ms").expect("both are known");
        assert_eq!(query.get("table_name"), Some("a_b"));
        assert_eq!(query.wait().ok().flatten(), Some(Duration::from_millis(500)));
    }

    #[test]
    fn unknown_and_repeated_options_are_refused() {
        assert!(parse("tablename=x").is_err());
        assert!(parse("wait=1&wait=2").is_err());
    }

    #[test]
    fn a_wait_beyond_its_bound_is_refused() {
        for query in ["wait=301", "wait=-1", "wait=", "wait=soon"] {
            assert!(parse(query).expect("the option is known").wait().is_err(), "{query} was accepted");
        }
    }
}
