//! The binary as people call it: exit codes, what is on which output, and the name of the plugin. No cluster is asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_lakeingest-operator");

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name).display().to_string()
}

/// Runs a program with nothing that could tell it of a cluster.
fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HOME", env!("CARGO_TARGET_TMPDIR"));
    command.output().expect("the binary runs")
}

/// Runs the operator; gives its exit code, its standard output and its standard error.
fn operator(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(Path::new(BINARY), arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn manifests_that_ask_are_printed_with_the_sidecar() {
    let (ingest, application) = (example("03-lakeingest.yaml"), example("04-application.yaml"));
    let (code, printed, words) = operator(&["inject", "-f", &application, "--lakeingest", &ingest]);
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert!(printed.contains("- name: LAKE_INGEST_URL\n"), "{printed}");
    let (code, printed, _) = operator(&["inject", "--offline", "-f", &ingest]);
    assert_eq!((code, printed), (Some(0), std::fs::read_to_string(ingest).expect("it is there")));
}

#[test]
fn what_is_refused_leaves_nothing_on_standard_output() {
    let (code, printed, words) = operator(&["inject", "--offline", "-f", &example("04-application.yaml")]);
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert!(words.contains("Deployment team-a/shop: there is no LakeIngest \"events\""), "{words}");
}

#[test]
fn what_cannot_be_read_is_told_from_what_is_refused() {
    for arguments in [
        ["inject", "-f", "/no/such/file"].as_slice(),
        &["inject", "-f", BINARY],
        &["inject"],
        &["inject", "--no-such-option"],
        &["inject", "--kubeconfig", "/no/such/file", "-f", &example("04-application.yaml")],
        &["why", "shop"],
        &["why", "service/shop"],
        &["check", "-f", "/no/such/file"],
    ] {
        let (code, printed, words) = operator(arguments);
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(words.starts_with("error: "), "{arguments:?}: {words}");
    }
}

#[test]
fn check_ends_with_1_when_something_fails() {
    let (code, printed, words) = operator(&["check", "-f", &example("03-lakeingest.yaml")]);
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert!(printed.starts_with("ok    manifest"), "{printed}");
    let (code, printed, _) = operator(&["check", "-f", &example("03-lakeingest.yaml"), "-o", "json"]);
    assert!(code == Some(0) && printed.contains("\"ready\": true"), "{printed}");
    let (code, printed, _) = operator(&["check"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("FAIL  api-server") && printed.contains("next: "), "{printed}");
}

#[test]
fn as_a_plugin_it_calls_itself_what_it_was_called() {
    let link: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl-lakeingest");
    // Of an earlier run.
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(BINARY, &link).expect("a link can be made");
    let help = |program: &Path| String::from_utf8_lossy(&run(program, &["--help"]).stdout).into_owned();
    let (plugin, operator) = (help(&link), help(Path::new(BINARY)));
    assert!(plugin.contains("Usage: kubectl lakeingest <COMMAND>") && !plugin.contains("until SIGTERM"), "{plugin}");
    assert!(
        operator.contains("Usage: lakeingest-operator <COMMAND>") && operator.contains("until SIGTERM"),
        "{operator}"
    );
    for verb in ["inject", "why", "check"] {
        assert!(plugin.contains(&format!("\n  {verb} ")), "{plugin}");
        let own = String::from_utf8_lossy(&run(&link, &[verb, "--help"]).stdout).into_owned();
        assert!(own.contains(&format!("Usage: kubectl lakeingest {verb}")), "{own}");
    }
}
