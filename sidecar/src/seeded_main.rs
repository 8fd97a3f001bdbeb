//! `lakeingest-sidecar-seeded`: the sidecar's program as it is, built with the feature that lets a variable put a bug in.
//!
//! Owns: nothing but its name, so that both programs lie beside each other. Never part of an image.

#[path = "main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
