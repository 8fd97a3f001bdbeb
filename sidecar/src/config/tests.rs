//! What the sidecar is told, in a pod and by hand, right and wrong.

use super::*;

fn arguments(lake: &str, config: Option<PathBuf>) -> ServeArguments {
    ServeArguments {
        lake: Some(lake.to_owned()),
        journal: Some(PathBuf::from("/nowhere/journal")),
        config,
        ..ServeArguments::default()
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), content).expect("the temporary file can be written");
    file
}

#[test]
fn only_the_lake_and_the_journal_are_needed() {
    let settings = Settings::load(&arguments("s3://lake-data", None)).expect("the rest has defaults");
    assert_eq!(settings.prefix.as_str(), "data");
    assert_eq!(settings.scratch, Path::new("/nowhere/journal/scratch"));
    assert!(matches!(settings.lake, LakeLocation::Bucket(options) if options.bucket == "lake-data"));
}

#[test]
fn what_cannot_be_a_lake_is_refused_in_words() {
    for (lake, words) in [
        ("/no/such/directory", "make it first"),
        ("s3://Bad_Bucket", "3 to 63 lower-case"),
        ("s3://bucket/folder", "--prefix"),
        ("gs://bucket", "neither a directory nor s3://"),
    ] {
        let error = Settings::load(&arguments(lake, None)).expect_err("it is no lake").to_string();
        assert!(error.contains(words), "{lake}: {error}");
    }
}

#[test]
fn unknown_fields_are_kept_by_name_and_every_violation_is_listed() {
    let known = file("flush: {maxRows: 10, maxWishes: 3}\nextra: 1\n");
    let settings = Settings::load(&arguments("s3://lake-data", Some(known.path().to_owned()))).expect("it is legal");
    assert_eq!(settings.unknown_fields, ["flush.maxWishes", "extra"]);
    assert_eq!(settings.config.flush.max_rows, 10);
    let illegal = file("flush: {maxRows: 0, maxAge: 1ms}\n");
    let error = Settings::load(&arguments("s3://lake-data", Some(illegal.path().to_owned()))).expect_err("it is not");
    assert!(error.to_string().contains("flush.maxRows") && error.to_string().contains("flush.maxAge"), "{error}");
}

#[test]
fn a_file_with_a_wrong_type_names_the_place() {
    let wrong = file("flush:\n  maxBytes: lots\n");
    let error = Settings::load(&arguments("s3://lake-data", Some(wrong.path().to_owned()))).expect_err("it is wrong");
    let words = crate::error_chain(&error);
    assert!(words.contains("flush") && words.contains("line 2") && words.contains("128Mi"), "{words}");
}

/// The arguments of a pod, whose configuration is somewhere else for the test.
fn of_pod(config: &tempfile::NamedTempFile) -> ServeArguments {
    ServeArguments { config: Some(config.path().to_owned()), ..ServeArguments::default() }
}

const OF_POD: &str = "{owner: {clusterId: c, namespace: team-a, name: events}, credentials: files, \
                      storage: {bucket: lake-data, s3: {endpoint: 'http://minio:9000', allowInsecure: true}}, \
                      server: {port: 9001, healthPort: 9002}}";

#[test]
fn in_a_pod_everything_is_in_the_configuration_and_at_its_place() {
    let settings = Settings::load(&of_pod(&file(OF_POD))).expect("a pod needs no argument");
    assert_eq!(settings.journal, Path::new("/var/lib/lakeingest/journal"));
    assert_eq!(settings.scratch, Path::new("/var/lib/lakeingest/scratch"));
    assert_eq!((settings.port, settings.health_port), (9001, 9002));
    assert_eq!(settings.health_address, HealthAddress::All);
    assert_eq!(settings.owner.to_string(), "c/team-a/events");
    let LakeLocation::Bucket(options) = settings.lake else { panic!("a pod's lake is a bucket") };
    assert_eq!(options.bucket, "lake-data");
    assert_eq!(options.credentials.as_deref(), Some(Path::new("/etc/lakeingest/credentials")));
}

#[test]
fn the_command_line_wins_over_the_configuration() {
    let arguments = ServeArguments {
        port: Some(0),
        journal: Some(PathBuf::from("/elsewhere")),
        health_address: Some(HealthAddress::Loopback),
        ..of_pod(&file(OF_POD))
    };
    // The file is gone with the line above; a path that is given and missing is named.
    let error = Settings::load(&arguments).expect_err("it is gone").to_string();
    assert!(error.contains("failed to read"), "{error}");
    let config = file(OF_POD);
    let arguments = ServeArguments { config: Some(config.path().to_owned()), ..arguments };
    let settings = Settings::load(&arguments).expect("it is legal");
    assert_eq!((settings.port, settings.journal.as_path()), (0, Path::new("/elsewhere")));
    assert_eq!(settings.health_address, HealthAddress::Loopback);
}

#[test]
fn a_configuration_without_what_a_pod_needs_names_it() {
    let error = Settings::load(&of_pod(&file("{}"))).expect_err("it has no bucket").to_string();
    assert!(error.contains("storage.bucket") && error.contains("owner"), "{error}");
}

#[test]
fn neither_a_lake_nor_a_pod_is_told_both_ways() {
    let error = Settings::load(&ServeArguments::default()).expect_err("there is nothing").to_string();
    assert!(error.contains("--lake and --journal") && error.contains("/etc/lakeingest/config/config.yaml"), "{error}");
    let only_lake = ServeArguments { journal: None, ..arguments("s3://lake-data", None) };
    let error = Settings::load(&only_lake).expect_err("there is no journal").to_string();
    assert!(error.contains("--journal"), "{error}");
}

#[test]
fn the_grace_period_is_a_number_of_seconds_or_nothing() {
    assert_eq!(seconds_of(Some("90")), Some(Duration::from_secs(90)));
    for text in [None, Some(""), Some("ninety"), Some("-1")] {
        assert_eq!(seconds_of(text), None);
    }
}

fn pinned(variables: &[(&str, &str)]) -> Result<Pinned, Vec<String>> {
    let found = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Pinned::of(found)
}

/// A volume keeps its size and the application its port, whatever the configuration says later.
#[test]
fn what_a_pod_was_made_with_wins_over_its_configuration() {
    let mut config = SidecarConfig::default();
    pinned(&[]).expect("there is nothing to read").apply(&mut config);
    assert_eq!(config, SidecarConfig::default());
    let all = [
        ("LAKEINGEST_PORT", "9001"),
        ("LAKEINGEST_HEALTH_PORT", "9002"),
        ("LAKEINGEST_JOURNAL_SIZE_LIMIT", "64Mi"),
        ("LAKEINGEST_SCRATCH_SIZE_LIMIT", "128Mi"),
        ("LAKEINGEST_CREDENTIALS", "files"),
    ];
    pinned(&all).expect("all can be read").apply(&mut config);
    assert_eq!((config.server.port, config.server.health_port), (9001, 9002));
    assert_eq!((config.buffer.size_limit.bytes(), config.buffer.scratch_size_limit.bytes()), (64 << 20, 128 << 20));
    assert_eq!(config.credentials, CredentialsSource::Files);
    let wrong = pinned(&[("LAKEINGEST_PORT", "x"), ("LAKEINGEST_CREDENTIALS", "air")]).expect_err("both are wrong");
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn the_operators_verdict_on_the_prefix_is_read_again_whenever_it_is_asked() {
    let config = file("storage: {prefixInUseBy: team-b/events}\n");
    let permission = Permission::of(config.path());
    assert_eq!(permission.withheld_for().as_deref(), Some("team-b/events"));
    std::fs::write(config.path(), "storage: {}\n").expect("it can be written");
    assert_eq!(permission.withheld_for(), None);
    assert_eq!(Permission::default().withheld_for(), None);
}
