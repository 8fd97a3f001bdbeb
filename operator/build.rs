//! Bakes the revision and the target into the binary.

use std::process::Command;

fn main() {
    let revision = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |revision| revision.trim().to_owned());
    println!("cargo:rustc-env=LAKEINGEST_REVISION={revision}");
    println!("cargo:rerun-if-changed=../.git/HEAD");
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=LAKEINGEST_TARGET={target}");
}
