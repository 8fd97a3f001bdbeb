//! `cargo xtask`: picks the verb and ends with its outcome.
//!
//! Owns: the command line.
//! Does not own: what a verb does (a module of the library each).

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use xtask::interrupt::{self, Interrupted};
use xtask::{bench, check, cluster, crdgen, demo, fuzz, image, setup, test_run, torture};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The one entry to everything that is done with this repository", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Install everything that the other verbs need into one cache folder (each also does so itself)
    Setup,
    /// Show the sidecar at work on real data: 336,776 flights from curl to a query over the lake
    Demo(demo::DemoOptions),
    /// Run every test, or those whose name holds one of the given words
    Test(test_run::TestOptions),
    /// End the sidecar in the worst moments, as often or as long as you like, and count what it has lost
    Torture(torture::TortureOptions),
    /// Feed the fuzz targets changed inputs, as many as you like
    Fuzz(fuzz::FuzzOptions),
    /// Check format, lints, docs, licences and the walls between the crates
    Check,
    /// Write what is generated from the types: the definition of LakeIngest
    Crdgen,
    /// Write the images of operator and sidecar as OCI archives into target/images
    Image(image::ImageOptions),
    /// Start or stop a Kubernetes of one node on this machine, for work by hand
    Cluster(cluster::ClusterOptions),
    /// Measure the sidecar on this machine, each figure against one of the machine's own, in some minutes
    Bench(bench::BenchOptions),
}

fn main() -> ExitCode {
    let Some(verb) = Arguments::parse().verb else {
        return match Arguments::command().print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    let outcome = interrupt::install().and_then(|()| match verb {
        Verb::Setup => setup::run(),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test_run::run(&options),
        Verb::Torture(options) => torture::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Check => check::run(),
        Verb::Crdgen => crdgen::run(),
        Verb::Image(options) => image::run(&options),
        Verb::Cluster(options) => cluster::run(&options),
        Verb::Bench(options) => bench::run(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("interrupted; what was started has been stopped");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
