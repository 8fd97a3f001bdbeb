//! Registries that meet in one lake, and requests that come and go.

use chrono::NaiveDate;
use lakeingest_crds::SidecarConfig;

use super::*;
use crate::clock::SystemClock;
use crate::decode::{Format, ScanLimits, scan};
use crate::publish::directory::DirectoryStore;
use crate::schema::Transform;

fn registry(root: &std::path::Path, writer: &str) -> Registry {
    registry_with(root, writer, "{}").0
}

/// A registry of a sidecar with this configuration, and what it shows.
fn registry_with(root: &std::path::Path, writer: &str, yaml: &str) -> (Registry, Arc<Status>) {
    let store = Store::Directory(DirectoryStore::new(root, "data/_lakeingest/unfinished".to_owned(), "writer"));
    let prefix = Prefix::new("data").expect("the default prefix is one");
    let clock = SystemClock::shared();
    let status = Arc::new(Status::new(Arc::clone(&clock)));
    (Registry::new(store, prefix, clock, writer.to_owned(), options_of(yaml), Arc::clone(&status)), status)
}

/// What a configuration says; every transform makes a column `computed`.
fn options_of(yaml: &str) -> SchemaOptions {
    let config: SidecarConfig = serde_yaml::from_str(yaml).expect("the test's YAML is well-formed");
    let computed = |select: &str, _: &Schema| {
        Ok(Transform { select: select.to_owned(), columns: vec![column("computed", ColumnType::Bigint)] })
    };
    let declarations = Declarations::of(&config, &computed).expect("it can be declared");
    SchemaOptions { declarations, ..SchemaOptions::default() }
}

/// Every table with its columns and its version.
fn known(registry: &Registry) -> Vec<(String, Schema, u32)> {
    let of = |name: String| {
        let (schema, version) = registry.known_of(&name).expect("it has a name");
        (name, schema, version)
    };
    registry.names().into_iter().map(of).collect()
}

fn column(name: &str, column_type: ColumnType) -> Column {
    Column::new(name, column_type)
}

/// The ids of the columns, without those inside.
fn ids(registered: &RegisteredSchema) -> Vec<i32> {
    registered.field_ids.iter().map(|field_id| field_id.id).collect()
}

fn one_id() -> Vec<FieldId> {
    vec![FieldId { id: 4, inside: Vec::new() }]
}

/// Invariant I9: whoever is first decides a column's type, and it stays.
#[tokio::test]
async fn i9_the_first_writer_decides_a_columns_type_for_ever() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (first, second) = (registry(root.path(), "first"), registry(root.path(), "second"));
    let one = first.reconcile("events", &[column("x", ColumnType::Bigint)]).await.expect("the lake is there");
    let observed = [column("x", ColumnType::Varchar), column("y", ColumnType::Double)];
    let two = second.reconcile("events", &observed).await.expect("the lake is there");
    assert_eq!(one.version, 1);
    assert_eq!(two.version, 2);
    assert_eq!(two.schema.columns(), [column("x", ColumnType::Bigint), column("y", ColumnType::Double)]);
    assert_eq!(ids(&two), [4, 5]);
    let again = first.version("events", 1).await.expect("the version stays");
    assert_eq!(again, one);
}

#[tokio::test]
async fn writers_that_meet_agree_on_one_schema() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let types = [ColumnType::Bigint, ColumnType::Varchar, ColumnType::Boolean, ColumnType::Double];
    let writers = (0..8).map(|number| {
        let registry = registry(root.path(), &number.to_string());
        let observed =
            [column("shared", types[number % 4].clone()), column(&format!("own_{number}"), ColumnType::Bigint)];
        async move { registry.reconcile("events", &observed).await.expect("16 attempts are enough for 8 writers") }
    });
    let seen = futures::future::join_all(writers).await;
    let newest = seen.iter().max_by_key(|schema| schema.version).expect("there are eight");
    for schema in &seen {
        let shared = schema.schema.position("shared").map(|position| schema.schema.columns()[position].clone());
        let winner = newest.schema.position("shared").map(|position| newest.schema.columns()[position].clone());
        assert_eq!(shared, winner);
    }
    assert_eq!(newest.schema.len(), 9);
    assert_eq!(ids(newest), (4..13).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_name_in_another_case_is_not_registered_beside_the_first() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    registry.reconcile("events", &[column("amount", ColumnType::Double)]).await.expect("the lake is there");
    let twin = registry.reconcile("events", &[column("Amount", ColumnType::Double)]).await.expect("the lake is there");
    assert_eq!(twin.schema.columns(), [column("amount", ColumnType::Double)]);
}

#[test]
fn the_registered_type_wins_over_the_local_one() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    registry.remember("events", &[column("x", ColumnType::Varchar), column("y", ColumnType::Bigint)]);
    let schema = Schema::new(vec![column("x", ColumnType::Bigint)]).expect("one column is legal");
    registry.learn("events", RegisteredSchema { version: 1, schema, field_ids: one_id() });
    let (_, local, version) = known(&registry).remove(0);
    assert_eq!(local.columns(), [column("x", ColumnType::Bigint), column("y", ColumnType::Bigint)]);
    assert_eq!(version, 1);
}

fn admit(registry: &Registry, table: &str, record: &str) -> Result<Admitted, DecodeError> {
    let scanned =
        Records::read(Format::Ndjson, record.as_bytes(), &ScanLimits::DEFAULT).expect("the test's records are JSON");
    registry.admit(table, &scanned, NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day"), OnInvalid::Reject)
}

fn admitted(registry: &Registry, table: &str, record: &str) -> Claim {
    admit(registry, table, record).expect("the record fits").claim
}

fn code(result: Result<Admitted, DecodeError>) -> &'static str {
    result.expect_err("it does not fit").violations()[0].code
}

#[test]
fn a_refused_request_leaves_no_column_and_no_table() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let refused = admitted(&registry, "events", r#"{"x": "text"}"#);
    assert_eq!(code(admit(&registry, "events", r#"{"x": 5}"#)), "type-mismatch");
    registry.retract("events", refused);
    assert_eq!(known(&registry), []);
    let kept = admitted(&registry, "events", r#"{"x": 5}"#);
    registry.keep("events", kept);
    let refused = admitted(&registry, "events", r#"{"x": 6, "y": "text"}"#);
    registry.retract("events", refused);
    let (_, local, _) = known(&registry).remove(0);
    assert_eq!(local.columns(), [column("x", ColumnType::Bigint)]);
}

#[test]
fn a_column_stays_when_another_request_that_has_it_was_journaled() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let first = admitted(&registry, "events", r#"{"x": 1, "y": 1}"#);
    let second = admitted(&registry, "events", r#"{"x": 2, "z": 2}"#);
    let third = admitted(&registry, "events", r#"{"z": 3}"#);
    registry.retract("events", first);
    registry.keep("events", second);
    registry.retract("events", third);
    let (_, local, _) = known(&registry).remove(0);
    assert_eq!(local.columns(), [column("x", ColumnType::Bigint), column("z", ColumnType::Bigint)]);
}

/// Whichever of them is refused last takes the columns along.
#[test]
fn columns_of_requests_that_were_all_refused_are_gone() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let first = admitted(&registry, "events", r#"{"x": 1}"#);
    let second = admitted(&registry, "events", r#"{"x": 2, "y": "text"}"#);
    registry.retract("events", first);
    assert_eq!(code(admit(&registry, "events", r#"{"x": "text"}"#)), "type-mismatch");
    registry.retract("events", second);
    assert_eq!(known(&registry), []);
}

#[tokio::test]
async fn a_registered_column_is_never_taken_back() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let refused = admitted(&registry, "events", r#"{"x": "text"}"#);
    registry.reconcile("events", &[column("x", ColumnType::Bigint)]).await.expect("the lake is there");
    registry.retract("events", refused);
    let (_, local, version) = known(&registry).remove(0);
    assert_eq!((local.columns(), version), ([column("x", ColumnType::Bigint)].as_slice(), 1));
}

#[test]
fn only_tables_that_take_records_count_against_their_bound() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    for number in 0..=TABLES_MAX {
        let schema = Schema::new(vec![column("x", ColumnType::Bigint)]).expect("one column is legal");
        registry.learn(&format!("learned_{number}"), RegisteredSchema { version: 1, schema, field_ids: one_id() });
    }
    let open: Vec<_> = (0..TABLES_MAX).map(|number| admitted(&registry, &format!("t{number}"), "{}")).collect();
    assert_eq!(code(admit(&registry, "one_more", "{}")), "too-many-tables");
    assert_eq!(code(admit(&registry, "learned_0", r#"{"x": 1}"#)), "too-many-tables");
    for (number, claim) in open.into_iter().enumerate() {
        if number == 0 {
            registry.retract("t0", claim);
        } else {
            registry.keep(&format!("t{number}"), claim);
        }
    }
    let learned = admitted(&registry, "learned_0", r#"{"x": 1}"#);
    registry.keep("learned_0", learned);
    assert_eq!(code(admit(&registry, "t0", "{}")), "too-many-tables");
    // A table that was there before takes more.
    drop(admitted(&registry, "t1", r#"{"x": 1}"#));
}

/// A record that was held against a column which is nobody's any more is looked at again: it may fit now.
#[test]
fn a_misfit_of_a_column_that_was_taken_back_meanwhile_is_judged_again() {
    let observed = |record: &str, known: &Schema| {
        let scanned =
            scan(Format::Ndjson, record.as_bytes(), &ScanLimits::DEFAULT).expect("the test's records are JSON");
        let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
        observe(&scanned, known, date, &Inference::default()).expect("there are few")
    };
    let mut table = TableSchemas::new(None);
    let first = table.admit(&Schema::empty(), &observed(r#"{"x": 5}"#, &Schema::empty())).expect("nothing is known");
    let known = table.local.clone();
    let (misfit, empty) = (observed(r#"{"x": "text"}"#, &known), observed("{}", &known));
    assert_eq!(misfit.misfits.total(), 1);
    table.retract(first.claim);
    assert!(table.admit(&known, &empty).is_some(), "it says nothing of any column");
    assert!(table.admit(&known, &misfit).is_none(), "x is nobody's");
}

/// Invariant I9, of what is inside: the first type of a field stands, and fields that come later get ids of their own.
#[tokio::test]
async fn i9_a_struct_grows_by_whoever_has_more_fields_and_keeps_its_ids() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (first, second) = (registry(root.path(), "first"), registry(root.path(), "second"));
    let of = |column_type: &str| [column("s", column_type.parse().expect("a type")), column("n", ColumnType::Bigint)];
    let one = first.reconcile("events", &of("struct(a bigint)")).await.expect("the lake is there");
    let two = second.reconcile("events", &of("struct(b list(date), a varchar)")).await.expect("the lake is there");
    assert_eq!((one.version, two.version, ids(&one), ids(&two)), (1, 2, vec![4, 6], vec![4, 6]));
    assert_eq!(two.schema.columns(), of("struct(a bigint, b list(date))"));
    let inside: Vec<i32> = two.field_ids[0]
        .inside
        .iter()
        .flat_map(|field| [field.id].into_iter().chain(field.inside.iter().map(|inner| inner.id)))
        .collect();
    assert_eq!(inside, [5, 7, 8]);
    // What is there already makes no version.
    let again = second.reconcile("events", &of("struct(a bigint)")).await.expect("the lake is there");
    assert_eq!((again.version, first.version("events", 2).await.expect("it stays")), (2, two));
}

#[test]
fn a_refused_request_leaves_no_field_in_a_struct() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let kept = admitted(&registry, "events", r#"{"s": {"a": 1}}"#);
    registry.keep("events", kept);
    let refused = admitted(&registry, "events", r#"{"s": {"b": "text"}}"#);
    assert_eq!(code(admit(&registry, "events", r#"{"s": {"b": 1}}"#)), "type-mismatch");
    registry.retract("events", refused);
    let local = || known(&registry).remove(0).1.columns()[0].column_type.to_string();
    assert_eq!(local(), "struct(a bigint)");
    let kept = admitted(&registry, "events", r#"{"s": {"b": 1}}"#);
    registry.keep("events", kept);
    assert_eq!(local(), "struct(a bigint, b bigint)");
}

/// One that was decided in another order than it was seen in is looked at no longer than any other.
#[test]
fn a_table_is_one_again_once_nothing_is_open() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let registry = registry(root.path(), "writer");
    let first = admitted(&registry, "events", r#"{"x": 1}"#);
    let second = admitted(&registry, "events", r#"{"y": 1}"#);
    registry.keep("events", second);
    registry.keep("events", first);
    let table = registry.tables().awake.get("events").cloned().expect("it takes records");
    assert!(table.is_settled());
}

const ORDERS: &str = "
tables:
- name: orders
  columns: [{name: id, type: bigint, nullable: false}, {name: amount, type: double}]
  onUnknownColumn: reject
onUndeclaredTable: reject";

#[tokio::test]
async fn what_is_declared_is_registered_in_its_order_before_a_record_has_it() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (registry, _) = registry_with(root.path(), "writer", ORDERS);
    let (name, local, version) = known(&registry).remove(0);
    assert_eq!((name.as_str(), local.len(), version), ("orders", 2, 0));
    let registered =
        registry.reconcile("orders", &[column("amount", ColumnType::Double)]).await.expect("the lake is there");
    assert_eq!(registered.schema.columns(), [column("id", ColumnType::Bigint), column("amount", ColumnType::Double)]);
    assert_eq!(*registered.schema.constraints(), Default::default(), "what is asked of records is nobody else's");
    let again = registry.reconcile("orders", &[]).await.expect("the lake is there");
    assert_eq!(again.version, 1);
}

#[test]
fn a_declaration_decides_what_its_table_takes_and_whether_others_are_taken() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (registry, _) = registry_with(root.path(), "writer", ORDERS);
    registry.keep("orders", admitted(&registry, "orders", r#"{"id": 1, "amount": 2}"#));
    assert_eq!(code(admit(&registry, "orders", r#"{"amount": 2}"#)), "value-missing");
    assert_eq!(code(admit(&registry, "clicks", r#"{"id": 1}"#)), "table-undeclared");
    // Whatever the request says of records that do not fit.
    let lines = "{\"id\": null}\n{\"id\": 1, \"more\": 1}\n{\"id\": 2}";
    let scanned =
        Records::read(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("the test's records are JSON");
    let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let refused = registry.admit("orders", &scanned, date, OnInvalid::Quarantine).expect_err("it has a stranger");
    assert_eq!((refused.violations().len(), refused.violations()[0].index), (1, Some(1)));
}

/// Invariant I9: a declaration does not change the type of a column that is there.
#[tokio::test]
async fn i9_a_declared_type_yields_to_the_one_that_is_there_and_that_is_shown() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let other = registry(root.path(), "other");
    other.reconcile("orders", &[column("amount", ColumnType::Varchar)]).await.expect("the lake is there");
    let (registry, status) = registry_with(root.path(), "writer", ORDERS);
    registry.load_all().await.expect("the lake is there");
    let registered = registry.reconcile("orders", &[]).await.expect("the lake is there");
    assert_eq!(registered.schema.columns(), [column("amount", ColumnType::Varchar), column("id", ColumnType::Bigint)]);
    let shown = status.reasons().remove(0);
    assert_eq!((shown.name, shown.scope.as_str()), (reasons::SCHEMA_CONFLICT, "orders"));
    assert!(shown.message.contains("amount is declared double and is varchar"), "{}", shown.message);
    assert_eq!(code(admit(&registry, "orders", r#"{"id": 1, "amount": 2}"#)), "type-mismatch");
    assert_eq!(code(admit(&registry, "orders", r#"{"amount": "2"}"#)), "value-missing");
}

/// A request that is under way when its table is declared anew has no part in what the next one is held against.
#[tokio::test]
async fn a_declaration_that_comes_under_a_request_holds_for_the_next() {
    let declared = "tables: [{name: events, columns: [{name: id, type: bigint}], onUnknownColumn: quarantine";
    let (plain, transformed) = (format!("{declared}}}]"), format!("{declared}, transform: SELECT}}]"));
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (registry, _) = registry_with(root.path(), "one", "{}");
    let under_way = admitted(&registry, "events", r#"{"stray": 1}"#);
    let with_stray = || admit(&registry, "events", r#"{"id": 1, "stray": 2}"#);
    for (yaml, fits) in
        [(transformed.as_str(), false), (plain.as_str(), true), ("{}", true), (transformed.as_str(), false)]
    {
        registry.redeclare(options_of(yaml));
        let next = with_stray();
        assert_eq!(next.is_ok(), fits, "{yaml}");
        if let Ok(next) = next {
            registry.retract("events", next.claim);
        }
    }
    registry.keep("events", under_way);
    assert!(with_stray().is_err());
    let files = registry.reconcile("events", &[]).await.expect("the lake is there");
    assert_eq!(files.schema.columns(), [column("computed", ColumnType::Bigint)]);
    registry.redeclare(options_of("{}"));
    let next = admit(&registry, "events", r#"{"id": 1, "computed": 2}"#).expect("it fits");
    assert_eq!(next.misfits.total(), 0);
}

/// Goal: a column that was declared by mistake is gone with its declaration, as it would be at a start; one that records have
/// stays. Method: one declared column without a record, one with a record that is journaled after the next declaration.
#[test]
fn what_was_only_declared_is_gone_when_it_is_declared_no_more() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let declared = |columns: &str| format!("tables: [{{name: orders, columns: [{columns}], onUnknownColumn: reject}}]");
    let first = declared("{name: id, type: bigint}, {name: amuont, type: double}, {name: at, type: date}");
    let (registry, _) = registry_with(root.path(), "writer", &first);
    let journaled = admitted(&registry, "orders", r#"{"id": 1}"#);
    registry.keep("orders", journaled);
    let under_way = admitted(&registry, "orders", r#"{"id": 2, "at": "2026-01-01"}"#);
    registry.redeclare(options_of(&declared("{name: id, type: bigint}, {name: amount, type: double}")));
    assert_eq!(code(admit(&registry, "orders", r#"{"id": 3, "amuont": 5}"#)), "column-unknown");
    registry.keep("orders", under_way);
    registry.redeclare(options_of("{}"));
    let (_, local, _) = known(&registry).remove(0);
    assert_eq!(local.columns(), [column("id", ColumnType::Bigint), column("at", ColumnType::Date)]);
}

#[test]
fn a_table_that_was_only_declared_is_gone_with_its_declaration() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (registry, _) = registry_with(root.path(), "writer", ORDERS);
    registry.redeclare(options_of("{}"));
    assert_eq!(known(&registry), []);
}

/// A lake has more tables than a sidecar writes: what nobody asks about sleeps, and is known all the same.
#[tokio::test]
async fn a_table_of_the_lake_sleeps_until_it_is_asked_about_and_has_its_types_then() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let other = registry(root.path(), "other");
    for table in ["asked", "told", "declared"] {
        other.reconcile(table, &[column("amount", ColumnType::Double)]).await.expect("the lake is there");
    }
    let registry = registry(root.path(), "writer");
    registry.load_all().await.expect("the lake is there");
    let asleep = || registry.tables().asleep.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!((asleep().len(), registry.tables().awake.len()), (3, 0));
    let amount = |table: &str| registry.known_of(table).map(|(schema, version)| (schema.columns().to_vec(), version));
    assert_eq!(amount("told"), Some((vec![column("amount", ColumnType::Double)], 1)));
    assert_eq!(amount("nobody"), None);
    assert_eq!(asleep().len(), 3, "to tell of one does not wake it");

    // A whole number would else make a column of whole numbers.
    registry.keep("asked", admitted(&registry, "asked", r#"{"amount": 2}"#));
    assert_eq!(amount("asked"), Some((vec![column("amount", ColumnType::Double)], 1)));
    registry.redeclare(options_of("tables: [{name: declared, columns: [{name: more, type: bigint}]}]"));
    let names: Vec<String> =
        amount("declared").into_iter().flat_map(|(columns, _)| columns).map(|it| it.name).collect();
    assert_eq!(names, ["amount", "more"]);
    assert_eq!(asleep().into_iter().collect::<Vec<_>>(), ["told"]);
    // Read again by another contact, each stays where it is.
    registry.load_all().await.expect("the lake is there");
    assert_eq!(asleep().into_iter().collect::<Vec<_>>(), ["told"]);
    assert_eq!(registry.names().len(), 3);
    assert_eq!(registry.reconcile("told", &[]).await.expect("the lake is there").version, 1);
}
