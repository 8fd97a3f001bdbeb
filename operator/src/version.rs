//! Which Kubernetes this runs on.
//!
//! Owns: the oldest version that is supported. Does not own: what differs between versions.

use kube::Client;

/// The oldest minor version of Kubernetes 1 that has native sidecars for good.
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>, general availability in 1.33.
const MINOR_MIN: u32 = 33;

/// The API server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// It did not say its version.
    #[error("failed to ask the API server for its version")]
    Ask(#[source] Box<kube::Error>),
    /// It is too old.
    #[error(
        "Kubernetes {found} is older than 1.{MINOR_MIN}, which brought the sidecar containers that the injection needs; upgrade the cluster"
    )]
    TooOld {
        /// Its version.
        found: String,
    },
}

/// The API server's version, if it is new enough.
///
/// # Errors
/// See [`VersionError`].
pub async fn require(client: &Client) -> Result<String, VersionError> {
    let info = client.apiserver_version().await.map_err(|error| VersionError::Ask(Box::new(error)))?;
    match is_new_enough(&info.major, &info.minor) {
        true => Ok(info.git_version),
        false => Err(VersionError::TooOld { found: info.git_version }),
    }
}

/// Some providers write a minor version as `33+`.
fn is_new_enough(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().ok();
    match (number(major), number(minor)) {
        (Some(1), Some(minor)) => minor >= MINOR_MIN,
        (Some(major), Some(_)) => major > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecar_containers_need_1_33() {
        for (major, minor, expected) in [
            ("1", "33", true),
            ("1", "33+", true),
            ("1", "37", true),
            ("2", "0", true),
            ("1", "32", false),
            ("", "", false),
        ] {
            assert_eq!(is_new_enough(major, minor), expected, "{major}.{minor}");
        }
    }
}
