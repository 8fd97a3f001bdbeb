//! Who may speak to a listener that is bound to loopback.
//!
//! Owns: the check of `Host` and `Origin`: a page in a browser that was lured to this port by a name of its own is
//! refused. Does not own: authentication; whoever is in the pod may write.

use http::{Request, header};

use crate::http::problem::{Problem, ProblemKind};

/// Checks that a request is for this host, and that no page in a browser has made it.
///
/// # Errors
/// Its `Host` is another, or it has two, or it has an `Origin`.
pub(super) fn require_this_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    // Source: RFC 9112, 3.2. What looks at the first and what looks at the last would not agree on whose the request is.
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::new(ProblemKind::MalformedHeader, "there is more than one Host header"));
    }
    let in_header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(in_header);
    if !host.is_some_and(is_this_host) {
        let detail = "the Host header must be localhost, 127.0.0.1 or [::1]";
        return Err(Problem::new(ProblemKind::Foreign, detail));
    }
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::new(ProblemKind::Foreign, "requests of web pages are not accepted"));
    }
    Ok(())
}

fn is_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host() {
        let of = |hosts: &[&str]| {
            let request = hosts.iter().fold(Request::builder(), |request, host| request.header(header::HOST, *host));
            require_this_host(&request.body(()).expect("it is a request")).map_err(|problem| problem.kind())
        };
        assert!(of(&["localhost"]).is_ok());
        assert_eq!(of(&[]), Err(ProblemKind::Foreign));
        assert_eq!(of(&["localhost", "localhost"]), Err(ProblemKind::MalformedHeader));
        assert_eq!(of(&["localhost", "example.com"]), Err(ProblemKind::MalformedHeader));
    }

    #[test]
    fn only_names_of_this_host_are_accepted() {
        for host in ["localhost", "LOCALHOST:8001", "127.0.0.1:8001", "[::1]", "[::1]:8001"] {
            assert!(is_this_host(host), "{host} was refused");
        }
        for host in ["", "example.com", "localhost.example.com:8001", "127.0.0.2", "::1", "localhost:x"] {
            assert!(!is_this_host(host), "{host} was accepted");
        }
    }
}
