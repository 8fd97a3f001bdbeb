//! `lakeingest-operator`: the command line.
//!
//! Owns: parsing, also as a plugin of `kubectl`, logging, the runtime. Does not own: what is done (`lakeingest_operator::run`,
//! `lakeingest_operator::cli`).

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lakeingest_operator::settings::RunArguments;
use lakeingest_operator::{REVISION, TARGET, cli, error_chain, run};
use tracing::level_filters::LevelFilter;
use tracing::{error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Injects the sidecar into the pods that ask for it, and keeps its configuration.
#[derive(Debug, Parser)]
#[command(name = "lakeingest-operator", version = version())]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run in a cluster, until SIGTERM
    Run(RunArguments),
    #[command(flatten)]
    Person(cli::Verb),
}

fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| format!("{} (revision {REVISION}, {TARGET})", env!("CARGO_PKG_VERSION")))
}

/// Logs to standard error, as much as `LAKEINGEST_LOG` says: a level, or `module=level` pairs with commas between.
fn start_logging(otherwise: LevelFilter) {
    let wanted = std::env::var("LAKEINGEST_LOG").ok();
    let parsed = wanted.as_deref().map(str::parse::<Targets>);
    let filter = match &parsed {
        Some(Ok(filter)) => filter.clone(),
        Some(Err(_)) | None => Targets::new().with_default(otherwise),
    };
    // Its spans say what ours say.
    let filter = match wanted.as_deref().is_some_and(|wanted| wanted.contains("kube")) {
        true => filter,
        false => filter.with_target("kube_runtime::controller", tracing::Level::WARN),
    };
    let to_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(to_terminal);
    tracing_subscriber::registry().with(lines).with(filter).init();
    if let Some(Err(error)) = parsed {
        warn!(error = %error, "LAKEINGEST_LOG cannot be used; logging as by default");
    }
}

/// How `kubectl` calls a program of this name: `kubectl lakeingest`.
const PLUGIN: &str = "kubectl-lakeingest";

/// What was asked for, with the help of the name that this was called by.
fn arguments() -> Arguments {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let is_plugin = called.is_some_and(|called| called.file_stem().is_some_and(|name| name == PLUGIN));
    let command = match is_plugin {
        true => {
            Arguments::command().name(PLUGIN).bin_name("kubectl lakeingest").mut_subcommand("run", |run| run.hide(true))
        }
        false => Arguments::command(),
    };
    let matches = command.get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    let Arguments { verb } = arguments();
    start_logging(match verb {
        Verb::Run(_) => LevelFilter::INFO,
        // A person is told what there is to say in words.
        Verb::Person(_) => LevelFilter::OFF,
    });
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing has chosen a provider before the first line of the program");
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(error = %error, "failed to start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match verb {
        Verb::Run(arguments) => runtime.block_on(run::run(arguments)).unwrap_or_else(|error| {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            error!(error = %error_chain(error), "failed to start");
            ExitCode::FAILURE
        }),
        Verb::Person(verb) => runtime.block_on(cli::run(verb)),
    }
}
