//! `lakeingest-sidecar`: the command line.
//!
//! Owns: parsing, logging, the runtime. Does not own: anything that moves data (`lakeingest_sidecar::run`).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lakeingest_sidecar::config::{ServeArguments, Settings};
use lakeingest_sidecar::{REVISION, error_chain, run};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// JSON on localhost becomes Parquet in the lake, exactly once.
#[derive(Debug, Parser)]
#[command(name = "lakeingest-sidecar", version = version())]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take records on localhost and bring them into the lake
    Serve(ServeArguments),
}

fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| format!("{} (revision {REVISION}, {})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH))
}

fn main() -> ExitCode {
    let Arguments { verb: Verb::Serve(arguments) } = Arguments::parse();
    let filter = EnvFilter::try_from_env("LAKEINGEST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let settings = match Settings::load(&arguments) {
        Ok(settings) => settings,
        Err(error) => {
            error!(error = %error_chain(&error), "failed to start");
            return ExitCode::from(2);
        }
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing has chosen a provider before the first line of the program");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(error = %error, "failed to start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run::serve(settings)).unwrap_or_else(|error| {
        let error: &(dyn std::error::Error + 'static) = error.as_ref();
        error!(error = %error_chain(error), "failed to start");
        ExitCode::FAILURE
    });
    // Deliveries that were given up at the deadline may still wait on the network.
    runtime.shutdown_background();
    code
}
