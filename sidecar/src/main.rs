//! `lakeingest-sidecar`: the command line.
//!
//! Owns: parsing, logging, the runtime. Does not own: anything that moves data (`lakeingest_sidecar::run`).

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lakeingest_crds::LogLevel;
use lakeingest_sidecar::config::{
    ConfigError, LakeArguments, ProbeArguments, RescueArguments, ServeArguments, Settings,
};
use lakeingest_sidecar::encode::trial;
use lakeingest_sidecar::limits::RESCUE_PATIENCE;
use lakeingest_sidecar::probe::{self, ProbeError};
use lakeingest_sidecar::rescue::replay;
use lakeingest_sidecar::{REVISION, TARGET, error_chain, preflight, run};
use tracing::{Level, error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

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
    /// Deliver the records that pods left in the lake as log files because their time ran out; any number of times
    Rescue(RescueArguments),
    /// Try whether the lake can be used: write, read and delete a small object and a Parquet file
    Preflight(LakeArguments),
    /// Say whether the process that serves has started (the startup probe of a pod)
    Started(ProbeArguments),
    /// Tell the process that serves that its pod is about to end (preStop of a pod)
    Drain(ProbeArguments),
    /// Encode a part of a segment to see whether that can be done (for the process that serves alone)
    #[command(name = trial::VERB, hide = true)]
    EncodeTrial,
}

fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| format!("{} (revision {REVISION}, {TARGET})", env!("CARGO_PKG_VERSION")))
}

/// Makes the log say as much as a level does.
type SetLogLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Logs to standard error, as much as `LAKEINGEST_LOG` says (a level, or `module=level` pairs with commas between), else
/// as much as the configuration does.
fn start_logging(level: LogLevel) -> SetLogLevel {
    let wanted = std::env::var("LAKEINGEST_LOG").ok();
    let parsed = wanted.as_deref().map(str::parse::<Targets>);
    let filter = match &parsed {
        Some(Ok(filter)) => filter.clone(),
        Some(Err(_)) | None => Targets::new().with_default(level_of(level)),
    };
    let to_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(to_terminal);
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry().with(lines).with(filter).init();
    match parsed {
        // What the environment says wins, and does not change.
        Some(Ok(_)) => return Box::new(|_| {}),
        Some(Err(error)) => {
            warn!(error = %error, "LAKEINGEST_LOG cannot be used; logging as the configuration says");
        }
        None => {}
    }
    Box::new(move |level| {
        // It fails only when there is no log any more.
        let _ = handle.reload(Targets::new().with_default(level_of(level)));
    })
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

pub(crate) fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Serve(arguments) => work(&arguments, async |settings, set_log_level| {
            let told = run::Told { arguments: arguments.clone(), set_log_level };
            run::serve(settings, told).await
        }),
        Verb::Rescue(arguments) => {
            let patience = arguments.patience.map_or(RESCUE_PATIENCE, |patience| patience.duration());
            work(&arguments.into(), async |settings, _| replay::rescue(&settings, patience).await)
        }
        Verb::Preflight(arguments) => {
            work(&arguments.into(), async |settings, _| preflight::preflight(&settings).await)
        }
        Verb::Started(arguments) => {
            let answer = arguments.ports().map(|ports| probe::started(ports.health_port));
            said(answer, ExitCode::FAILURE)
        }
        Verb::EncodeTrial => trial::main(),
        // A hook that fails delays the end and helps nobody: what it has to say goes to the container's events.
        Verb::Drain(arguments) => said(arguments.ports().map(|ports| probe::drain(ports.port)), ExitCode::SUCCESS),
    }
}

/// Success, or the reason on standard error.
fn said(answer: Result<Result<(), ProbeError>, ConfigError>, otherwise: ExitCode) -> ExitCode {
    let words = match answer {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error_chain(&error),
        Err(error) => error_chain(&error),
    };
    eprintln!("{words}");
    otherwise
}

/// Runs a verb that moves data; the settings, the log and the runtime are made here.
fn work(
    arguments: &ServeArguments,
    verb: impl AsyncFnOnce(Settings, SetLogLevel) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let settings = match Settings::load(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            drop(start_logging(LogLevel::default()));
            error!(error = %error_chain(&error), "failed to start");
            return ExitCode::from(2);
        }
    };
    let set_log_level = start_logging(settings.config.log_level);
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
    let code = runtime.block_on(verb(settings, set_log_level)).unwrap_or_else(|error| {
        let error: &(dyn std::error::Error + 'static) = error.as_ref();
        error!(error = %error_chain(error), "failed to start or to go on");
        ExitCode::FAILURE
    });
    // Deliveries that were given up at the deadline may still wait on the network.
    runtime.shutdown_background();
    code
}
