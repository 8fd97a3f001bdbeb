//! Prints the definition of LakeIngest as YAML, for `cargo xtask crdgen`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lakeingest_crds::lakeingest::yaml() {
        Ok(yaml) => {
            print!("{yaml}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed to print the definition: {error}");
            ExitCode::FAILURE
        }
    }
}
