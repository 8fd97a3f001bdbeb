//! From the bytes of a body to its records: formats, the envelope, the verdicts on both.
//!
//! Owns: which formats there are, the fields of the JSON envelope, the rules of table names and dates.
//! Does not own: the grammar of JSON (`scan`), the columns of a record (`schema`).

use std::borrow::Cow;

use chrono::NaiveDate;
use lakeingest_crds::names::{self, QUARANTINE_SUFFIX, TABLE_NAME_BYTES_MAX, TableNameFault};

use super::csv::scan_csv;
use super::error::{DecodeError, Violation, Violations, pointer_segment};
use super::instant::{NoDate, read_date};
use super::scan::{ScanLimits, root, scan_document, scan_lines, too_many_records};
use super::tape::{Node, NodeKind, Value};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One JSON document: `{"table_name", "records": [{…}, …]}` or `{"table_name", "record": {…}}`,
    /// with an optional `"partition_date": "YYYY-MM-DD"`.
    Json,

    /// One JSON object a line (LF or CRLF); blank lines are skipped, the last line may lack its end.
    Ndjson,

    /// A header, then a row a record; see `csv`.
    Csv,

    /// Arrow's IPC stream, a row a record; see `columnar`.
    ArrowStream,

    /// A Parquet file, a row a record; see `columnar`.
    Parquet,
}

impl Format {
    /// The number that stands for the format in the journal; it never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Json => 1,
            Self::Ndjson => 2,
            Self::Csv => 3,
            Self::ArrowStream => 4,
            Self::Parquet => 5,
        }
    }

    /// The format of a journal's number; `None` for one that this version does not know.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Json),
            2 => Some(Self::Ndjson),
            3 => Some(Self::Csv),
            4 => Some(Self::ArrowStream),
            5 => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A body whose every byte has been checked: its envelope, and its records, of which there is at least one.
#[derive(Debug)]
pub struct Scanned<'a> {
    format: Format,
    text: &'a str,
    nodes: Vec<Node>,
    records: Vec<u32>,
    single_record: bool,
    table_name: Option<String>,
    partition_date: Option<NaiveDate>,
    /// Records that do not fit whatever their table is, ascending, and the field at fault.
    strays: Vec<(usize, String)>,
}

impl Scanned<'_> {
    /// The same records, of which some do not fit whatever their table is: their numbers, ascending, and the field at fault.
    pub(crate) fn with_strays(self, strays: Vec<(usize, String)>) -> Self {
        Self { strays, ..self }
    }

    /// The field of record `index` whose value is none that a column could have.
    #[inline]
    pub(crate) fn stray(&self, index: usize) -> Option<&str> {
        if self.strays.is_empty() {
            return None;
        }
        let place = self.strays.binary_search_by_key(&index, |(record, _)| *record).ok()?;
        Some(&self.strays[place].1)
    }

    /// How the body is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The checked table name of a JSON envelope; `None` for the formats that have no envelope.
    pub fn table_name(&self) -> Option<&str> {
        self.table_name.as_deref()
    }

    /// The date of the envelope, if it names one.
    pub fn partition_date(&self) -> Option<NaiveDate> {
        self.partition_date
    }

    /// Number of records; at least 1.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Record `index`: always an object.
    ///
    /// # Panics
    /// When `index` is not below [`Self::record_count`].
    #[inline]
    pub fn record(&self, index: usize) -> Value<'_> {
        root(self.text, &self.nodes, self.records[index])
    }

    /// The text of record `index` exactly as received; of a row of CSV, an object of its texts under the header's names.
    ///
    /// # Panics
    /// When `index` is not below [`Self::record_count`].
    pub fn record_text(&self, index: usize) -> Cow<'_, str> {
        let record = self.record(index);
        match self.format {
            Format::Json | Format::Ndjson | Format::ArrowStream | Format::Parquet => Cow::Borrowed(record.raw()),
            Format::Csv => {
                // The header's names are legal, and need no escape. What is empty is not there.
                let fields = record.members().filter(|(_, value)| !value.is_null());
                let fields = fields.map(|(name, value)| format!("\"{name}\":{}", value.json()));
                Cow::Owned(format!("{{{}}}", fields.collect::<Vec<_>>().join(",")))
            }
        }
    }

    /// By how much [`Self::record_text`] is longer than what was received. Unit: bytes.
    pub(crate) fn text_added(&self, index: usize) -> usize {
        match self.format {
            Format::Json | Format::Ndjson | Format::ArrowStream | Format::Parquet => 0,
            Format::Csv => self.record_text(index).len().saturating_sub(self.record(index).raw().len()),
        }
    }

    /// JSON pointer to a field of record `index`, as violations give it; `field` is the pointer within the record, without
    /// the slash in front.
    pub(crate) fn pointer(&self, index: usize, field: &str) -> String {
        match (self.format, self.single_record) {
            (Format::Json, false) => format!("/records/{index}/{field}"),
            (Format::Json, true) => format!("/record/{field}"),
            (Format::Ndjson | Format::Csv | Format::ArrowStream | Format::Parquet, _) => format!("/{field}"),
        }
    }
}

/// Checks every byte of a body and finds its records.
///
/// # Errors
/// `Malformed` when the bytes are not the declared format, `Illegal` when the envelope or a record breaks a rule.
/// Either way the client has to change the body.
pub fn scan<'a>(format: Format, body: &'a [u8], limits: &ScanLimits) -> Result<Scanned<'a>, DecodeError> {
    if u32::try_from(body.len()).is_err() {
        let violation = Violation::new("", "body-too-large", "a body has at most 4294967295 bytes");
        return Err(DecodeError::Illegal(violation.into()));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        let violation = Violation::new("", "byte-order-mark", "the body begins with a byte order mark");
        return Err(DecodeError::Malformed(violation.into()));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        DecodeError::Malformed(Violation::new("", "invalid-utf-8", detail).into())
    })?;
    match format {
        Format::Json => scan_json(text, limits),
        Format::Ndjson => scan_records(format, text, scan_lines(text, limits)?, limits),
        Format::Csv => scan_records(format, text, scan_csv(text, limits)?, limits),
        Format::ArrowStream | Format::Parquet => {
            let violation = Violation::new("", "not-a-text", "the body is one of columns, and has no text");
            Err(DecodeError::Malformed(violation.into()))
        }
    }
}

/// A body without an envelope.
fn scan_records<'a>(
    format: Format,
    text: &'a str,
    (nodes, records): (Vec<Node>, Vec<u32>),
    limits: &ScanLimits,
) -> Result<Scanned<'a>, DecodeError> {
    let mut violations = Violations::default();
    if records.is_empty() {
        violations.push(Violation::new("", "no-records", "the body has no records"));
    }
    for (index, record) in records.iter().enumerate() {
        check_record(root(text, &nodes, *record), limits, &mut violations, || {
            Violation::new("", "", "").of_record(index)
        });
    }
    violations.into_result(Scanned {
        format,
        text,
        nodes,
        records,
        single_record: false,
        table_name: None,
        partition_date: None,
        strays: Vec::new(),
    })
}

fn scan_json<'a>(text: &'a str, limits: &ScanLimits) -> Result<Scanned<'a>, DecodeError> {
    let nodes = scan_document(text, limits)?;
    let mut violations = Violations::default();
    let envelope = root(text, &nodes, 0);
    if envelope.kind() != NodeKind::Object {
        let detail = format!("the body must be an object, it is {}", envelope.kind().in_words());
        return Err(DecodeError::Illegal(Violation::new("", "envelope-not-an-object", detail).into()));
    }
    let fields = EnvelopeFields::read(envelope, &mut violations);
    let table_name = fields.table_name(&mut violations).map(Cow::into_owned);
    let partition_date = fields.partition_date(&mut violations);
    let (records, single_record) = fields.records(limits, &mut violations);
    violations.into_result(Scanned {
        format: Format::Json,
        text,
        records,
        single_record,
        nodes,
        table_name,
        partition_date,
        strays: Vec::new(),
    })
}

/// The fields of the envelope as they stand, not checked yet.
#[derive(Default)]
struct EnvelopeFields<'s> {
    table_name: Option<Value<'s>>,
    partition_date: Option<Value<'s>>,
    records: Option<Value<'s>>,
    record: Option<Value<'s>>,
}

impl<'s> EnvelopeFields<'s> {
    fn read(envelope: Value<'s>, violations: &mut Violations) -> Self {
        let mut fields = Self::default();
        for (name, value) in envelope.members() {
            match &*name {
                "table_name" => fields.table_name = Some(value),
                "partition_date" => fields.partition_date = Some(value),
                "records" => fields.records = Some(value),
                "record" => fields.record = Some(value),
                _ => violations.push_with(|| {
                    let segment = pointer_segment(&name);
                    let detail = format!(
                        "the envelope has no field {segment}; its fields are table_name, partition_date, and either \
                         records or record"
                    );
                    Violation::new(format!("/{segment}"), "unknown-field", detail)
                }),
            }
        }
        fields
    }

    fn table_name(&self, violations: &mut Violations) -> Option<Cow<'s, str>> {
        let Some(value) = self.table_name else {
            violations.push(Violation::new("/table_name", "missing-field", "table_name is required"));
            return None;
        };
        let name = string_field("table_name", value, violations)?;
        match check_table_name(&name) {
            Ok(()) => Some(name),
            Err(violation) => {
                violations.push(violation);
                None
            }
        }
    }

    fn partition_date(&self, violations: &mut Violations) -> Option<NaiveDate> {
        let text = string_field("partition_date", self.partition_date?, violations)?;
        match parse_partition_date(&text) {
            Ok(date) => Some(date),
            Err(violation) => {
                violations.push(violation);
                None
            }
        }
    }

    /// The nodes of the records, and whether they came as the single `record`.
    fn records(&self, limits: &ScanLimits, violations: &mut Violations) -> (Vec<u32>, bool) {
        match (self.records, self.record) {
            (Some(_), Some(_)) => {
                let detail = "the envelope has either records or record, not both";
                violations.push(Violation::new("/record", "conflicting-fields", detail));
                (Vec::new(), false)
            }
            (None, None) => {
                violations.push(Violation::new("/records", "missing-field", "records or record is required"));
                (Vec::new(), false)
            }
            (None, Some(record)) => {
                check_record(record, limits, violations, || Violation::new("/record", "", "").of_record(0));
                (vec![record.index()], true)
            }
            (Some(records), None) => (many_records(records, limits, violations), false),
        }
    }
}

fn many_records(records: Value<'_>, limits: &ScanLimits, violations: &mut Violations) -> Vec<u32> {
    if records.kind() != NodeKind::Array {
        let detail = format!("records must be an array, it is {}", records.kind().in_words());
        violations.push(Violation::new("/records", "field-type", detail));
        return Vec::new();
    }
    let mut indexes = Vec::new();
    for (index, record) in records.elements().enumerate() {
        if index >= limits.records_max {
            violations.push(Violation { pointer: "/records".to_owned(), ..too_many_records(limits.records_max) });
            return indexes;
        }
        check_record(record, limits, violations, || {
            Violation::new(format!("/records/{index}"), "", "").of_record(index)
        });
        indexes.push(record.index());
    }
    if indexes.is_empty() {
        violations.push(Violation::new("/records", "no-records", "records is empty"));
    }
    indexes
}

/// Checks that a record is an object of legal size; `place` gives the place of the record.
#[inline]
fn check_record(
    record: Value<'_>,
    limits: &ScanLimits,
    violations: &mut Violations,
    place: impl FnOnce() -> Violation,
) {
    if record.kind() != NodeKind::Object {
        violations.push_with(|| Violation {
            code: "record-not-an-object",
            detail: format!("a record must be an object, it is {}", record.kind().in_words()),
            ..place()
        });
    } else if record.raw().len() > limits.record_bytes_max {
        violations.push_with(|| Violation {
            code: "record-too-large",
            detail: format!(
                "a record has at most {} bytes, this one has {}",
                limits.record_bytes_max,
                record.raw().len()
            ),
            ..place()
        });
    }
}

fn string_field<'s>(name: &str, value: Value<'s>, violations: &mut Violations) -> Option<Cow<'s, str>> {
    let text = value.string();
    if text.is_none() {
        let detail = format!("{name} must be a string, it is {}", value.kind().in_words());
        violations.push(Violation::new(format!("/{name}"), "field-type", detail));
    }
    text
}

/// Checks a table name: `[a-z][a-z0-9_]{0,62}`, not ending in `_quarantine`.
///
/// # Errors
/// A violation at `/table_name`; the client has to choose another name.
pub fn check_table_name(name: &str) -> Result<(), Violation> {
    let detail = match names::check_table_name(name) {
        Ok(()) => return Ok(()),
        Err(TableNameFault::Long) => {
            format!("a table name has at most {TABLE_NAME_BYTES_MAX} bytes, this one has {}", name.len())
        }
        Err(TableNameFault::Form) => {
            "a table name begins with a letter a to z and goes on with a to z, 0 to 9 and _".to_owned()
        }
        Err(TableNameFault::Reserved) => format!("a table name must not end in {QUARANTINE_SUFFIX}"),
    };
    Err(Violation::new("/table_name", "table-name", detail))
}

/// Reads a partition date: exactly `YYYY-MM-DD`, a day that exists, year 1 to 9999.
///
/// # Errors
/// A violation at `/partition_date`; the client has to send another date.
pub fn parse_partition_date(text: &str) -> Result<NaiveDate, Violation> {
    let detail = match read_date(text.as_bytes()) {
        Ok(date) => return Ok(date),
        Err(NoDate::Form) => "a partition date is written YYYY-MM-DD",
        Err(NoDate::Year) => "a partition date has a year from 0001 to 9999",
        Err(NoDate::Day) => "there is no such day in the calendar",
    };
    Err(Violation::new("/partition_date", "partition-date", detail))
}

#[cfg(test)]
mod tests;
