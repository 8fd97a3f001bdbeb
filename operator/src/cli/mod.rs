//! The command line for people: what the operator would do, has done, and why.
//!
//! ```text
//! inject -f FILE ──> documents ──> objects ──> Admission (the webhook's own) ──> YAML
//! why POD ─────────> cluster ────> Admission ──> words
//! check ───────────> cluster ────> findings
//! ```
//!
//! Owns: the verbs and their exit codes. Upholds I7: a pod is judged by what the webhook judges by, a LakeIngest by
//! `validate_spec`. Does not own: the operator at work (`run`).

mod check;
mod cluster;
mod documents;
mod inject;
mod known;
mod objects;
mod why;
mod yaml;

pub use check::CheckArguments;
pub use inject::InjectArguments;
pub use why::WhyArguments;

use std::process::ExitCode;

use clap::Subcommand;

use crate::error_chain;

/// Something is refused, or does not work.
const EXIT_REFUSED: u8 = 1;

/// It could not be done: an input or the cluster cannot be read. The exit code of a wrong command line as well.
const EXIT_UNUSABLE: u8 = 2;

/// What a person asks for.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Print manifests with the sidecar in every pod that asks for it, as the webhook would add it
    #[command(after_help = inject::AFTER_HELP)]
    Inject(InjectArguments),
    /// Say why a pod has a sidecar or has none, whether it would be the same today, and what to do
    #[command(after_help = why::AFTER_HELP)]
    Why(WhyArguments),
    /// Say whether the cluster is ready for pods that ask, or whether LakeIngests in files are right
    #[command(after_help = check::AFTER_HELP)]
    Check(CheckArguments),
}

/// It could not be done.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Documents(#[from] documents::DocumentError),
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    #[error("failed to find the LakeIngests of the cluster (with --offline those of files are enough)")]
    LakeIngests(#[source] cluster::ClusterError),
    #[error("failed to write to standard output")]
    Write(#[source] std::io::Error),
}

/// Does what a person asks for.
pub async fn run(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::Inject(arguments) => inject::run(arguments).await,
        Verb::Why(arguments) => why::run(arguments).await,
        Verb::Check(arguments) => check::run(arguments).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {}", error_chain(&error));
        ExitCode::from(EXIT_UNUSABLE)
    })
}

/// Writes to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), CliError> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Write(error)),
        _ => Ok(()),
    }
}
