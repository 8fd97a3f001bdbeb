//! A segment's batches into the encoder's tables.
//!
//! Owns: reading the journal, decoding, the split into rows that fit and rows that do not. Upholds I5.
//! Does not own: files (`copy`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{Field, Schema as ArrowSchema};
use arrow_select::concat::concat_batches;
use chrono::NaiveDate;
use duckdb::{Appender, Connection};

use crate::decode::{DecodedRows, ScanLimits, Scanned, Target, decode_rows, scan};
use crate::encode::EncodeJob;
use crate::encode::digest::RowDigest;
use crate::encode::error::EncodeError;
use crate::encode::session::quoted_name;
use crate::journal::batch::{Batch, days_since_1970};
use crate::journal::control::{PLAN_QUARANTINED_ROWS_MAX, QuarantinedRow};
use crate::journal::reader::SegmentReader;
use crate::journal::segment::Contents;
use crate::schema::registry::RegisteredSchema;
use crate::schema::{Column, ColumnType, Misfit, Rules};
use crate::seeded::{self, Bug};

/// Name of the table with the rows that fit. No user's table or column can be named so.
pub(super) const MAIN_TABLE: &str = "#main";

/// Name of the table with the records that do not fit.
pub(super) const QUARANTINE_TABLE: &str = "#quarantine";

/// Column of [`MAIN_TABLE`]: the partition's date as days since 1970.
pub(super) const DAY_COLUMN: &str = "#day";

/// The columns of a quarantine file with their SQL types and field ids. They never change their order; new ones come
/// at the end.
pub(super) const QUARANTINE_COLUMNS: [(&str, &str, i32); 8] = [
    ("batch", "VARCHAR", 4),
    ("record_index", "BIGINT", 5),
    ("received_at", "TIMESTAMPTZ", 6),
    ("partition_date", "DATE", 7),
    ("field", "VARCHAR", 8),
    ("code", "VARCHAR", 9),
    ("detail", "VARCHAR", 10),
    ("record", "VARCHAR", 11),
];

/// What was loaded.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Places in the registered schema of the columns that [`MAIN_TABLE`] has: those with a value in the segment. The
    /// others are null in every row.
    pub(super) columns: Vec<usize>,
    /// Rows and digest of each partition.
    pub(super) partitions: BTreeMap<NaiveDate, (u64, RowDigest)>,
    /// Rows of each batch that do not fit, by the batch's sequence.
    pub(super) quarantined_by_batch: BTreeMap<u64, u64>,
    /// The first of them, for the plan.
    pub(super) quarantined: Vec<QuarantinedRow>,
    /// How many do not fit.
    pub(super) quarantined_rows: u64,
    /// Their digest.
    pub(super) quarantine_digest: RowDigest,
}

/// SQL type of a column.
pub(super) fn sql_type(column_type: &ColumnType) -> Cow<'static, str> {
    let scalar = match column_type {
        ColumnType::Bigint => "BIGINT",
        ColumnType::Double => "DOUBLE",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Date => "DATE",
        // A timestamp without a zone shifts with the zone of whoever reads it.
        ColumnType::Timestamp => "TIMESTAMPTZ",
        // Parquet's own JSON type makes files that some engines cannot read at all.
        ColumnType::Varchar | ColumnType::Json => "VARCHAR",
        ColumnType::List(element) => return format!("{}[]", sql_type(element)).into(),
        ColumnType::Struct(fields) => {
            let field = |field: &Column| format!("{} {}", quoted_name(&field.name), sql_type(&field.column_type));
            let fields: Vec<String> = fields.columns().iter().map(field).collect();
            return format!("STRUCT({})", fields.join(", ")).into();
        }
    };
    scalar.into()
}

/// Which rows of a segment are loaded.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// These, counted from 0 over all batches.
    pub(super) range: Range<u64>,
    /// Of them these to quarantine, since the encoder fails on them: sequence and place in the batch.
    pub(super) poison: BTreeSet<(u64, u32)>,
}

/// Reason of a record that the encoder fails on.
const POISON_CODE: &str = "encode-failed";

impl Selection {
    /// Takes out of the rows of a batch, which begins at row `start` of the segment, those that are not wanted.
    fn apply(&self, rows: &mut DecodedRows, sequence: u64, start: u64) -> Result<(), EncodeError> {
        let is_in = |row: u32| self.range.contains(&(start + u64::from(row)));
        let is_poison = |row: u32| self.poison.contains(&(sequence, row));
        let poison = rows.kept.iter().filter(|row| is_in(**row) && is_poison(**row)).map(|row| Misfit {
            row: *row,
            column: String::new(),
            code: POISON_CODE,
            detail: "the encoder fails on this record".to_owned(),
        });
        let poison: Vec<Misfit> = poison.collect();
        rows.retain(|row| is_in(row) && !is_poison(row)).map_err(EncodeError::Arrow)?;
        rows.misfits.retain(|misfit| is_in(misfit.row));
        rows.misfits.extend(poison);
        rows.misfits.sort_by_key(|misfit| misfit.row);
        Ok(())
    }
}

/// Loads a segment, or some rows of it. The tables are made here; the caller drops them.
pub(super) fn load(connection: &Connection, job: &EncodeJob, selection: &Selection) -> Result<Loaded, EncodeError> {
    let (contents, registered) = (&*job.contents, &*job.registered);
    let mut loaded = Loaded { columns: columns_with_values(contents, registered), ..Loaded::default() };
    let mut tables = Tables::create(connection, registered, &loaded.columns)?;
    let mut reader = SegmentReader::open(&job.journal, contents).map_err(EncodeError::Journal)?;
    let mut rows = 0;
    while let Some((sequence, batch)) = reader.next_batch().map_err(EncodeError::Journal)? {
        let known = contents.schemas.get(&batch.schema);
        let known = known.ok_or(EncodeError::UnknownSchema { segment: contents.number, sequence })?;
        let decode_error = |source| EncodeError::Decode { segment: contents.number, sequence, source };
        let body = batch.body.decoded().map_err(decode_error)?;
        let scanned = scan(batch.format, &body, &ScanLimits::ACCEPTED).map_err(decode_error)?;
        let mut present = batch.present.clone();
        present.resize(known.len(), false);
        let rules = Rules::new(known, batch.partition_date);
        let (wanted, registered) = (loaded.columns.clone(), &registered.schema);
        let target = Target { rules, present: &present, registered, wanted: &wanted };
        let source = Source { batch: &batch, id: format!("{}-{sequence}", job.segment.journal), sequence };
        for first in (0..scanned.record_count()).step_by(APPEND_ROWS) {
            // A table's every column is made for these rows alone, whatever the batch has.
            let slice = first..scanned.record_count().min(first + APPEND_ROWS);
            let mut decoded = decode_rows(&scanned, &target, slice).map_err(decode_error)?;
            selection.apply(&mut decoded, sequence, rows)?;
            if [Bug::PoisonRecord, Bug::DeadlyRecord, Bug::PanickingRecord].into_iter().any(seeded::is) {
                fail_on_poison(&decoded, &scanned)?;
            }
            for misfits in decoded.misfits.chunks(QUARANTINE_ROWS) {
                loaded.quarantine(&mut tables, &scanned, misfits, &source)?;
            }
            loaded.take(&mut tables, decoded, &job.registered, &source)?;
        }
        rows += u64::from(batch.rows);
    }
    tables.finish()?;
    if rows == contents.rows {
        Ok(loaded)
    } else {
        Err(EncodeError::RowCount { segment: contents.number, expected: contents.rows, found: rows })
    }
}

/// See [`Bug::PoisonRecord`] and those like it.
fn fail_on_poison(rows: &DecodedRows, scanned: &Scanned<'_>) -> Result<(), EncodeError> {
    let is_poison = |row: &u32| scanned.record_text(*row as usize).contains(seeded::POISON);
    match rows.kept.iter().any(is_poison) {
        true if seeded::is(Bug::DeadlyRecord) => std::process::abort(),
        true if seeded::is(Bug::PanickingRecord) => panic!("the record is poison"),
        true => Err(EncodeError::Load(duckdb::Error::InvalidQuery)),
        false => Ok(()),
    }
}

/// Which batches, and places in them, rows of a segment are, counted from 0 and ascending.
pub(super) fn places_of(job: &EncodeJob, rows: &[u64]) -> Result<Vec<(u64, u32)>, EncodeError> {
    let mut reader = SegmentReader::open(&job.journal, &job.contents).map_err(EncodeError::Journal)?;
    let (mut places, mut start) = (Vec::with_capacity(rows.len()), 0);
    while let Some((sequence, batch)) = reader.next_batch().map_err(EncodeError::Journal)? {
        let end = start + u64::from(batch.rows);
        let of_batch = rows.iter().filter(|row| (start..end).contains(row));
        places.extend(of_batch.filter_map(|row| Some((sequence, u32::try_from(row - start).ok()?))));
        start = end;
    }
    Ok(places)
}

/// A batch and what it is called.
struct Source<'a> {
    batch: &'a Batch,
    id: String,
    sequence: u64,
}

/// The encoder's two tables, open for appending.
struct Tables<'a> {
    main: TableAppender<'a>,
    quarantine: TableAppender<'a>,
}

/// Rows on their way to a table. Those of small batches are put together first: the database takes
/// [`APPEND_ROWS`] at the price of one.
struct TableAppender<'a> {
    appender: Appender<'a>,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    /// Unit: bytes.
    gathered_bytes: usize,
}

/// Rows that are handed to the database at once: its own vector size.
const APPEND_ROWS: usize = 2_048;

/// What is gathered for that at the most: rows can be long, and short batches of a wide table have many arrays. Unit: bytes.
const GATHERED_BYTES_MAX: usize = 8 << 20;

/// Rows of a quarantine that are made at once: their texts can be long.
const QUARANTINE_ROWS: usize = 64;

impl<'a> Tables<'a> {
    fn create(
        connection: &'a Connection,
        registered: &RegisteredSchema,
        columns: &[usize],
    ) -> Result<Self, EncodeError> {
        let own = columns.iter().map(|place| &registered.schema.columns()[*place]);
        let own = own.map(|column| format!(", {} {}", quoted_name(&column.name), sql_type(&column.column_type)));
        let day = quoted_name(DAY_COLUMN);
        let quarantine = QUARANTINE_COLUMNS.iter().map(|(name, sql, _)| format!("{} {sql}", quoted_name(name)));
        let main = own.collect::<String>();
        let quarantine = quarantine.collect::<Vec<_>>().join(", ");
        let statements = [
            drop_tables(),
            format!("CREATE TEMP TABLE {} ({day} INTEGER{main})", quoted_name(MAIN_TABLE)),
            format!("CREATE TEMP TABLE {} ({quarantine})", quoted_name(QUARANTINE_TABLE)),
        ];
        for statement in statements {
            connection.execute_batch(&statement).map_err(EncodeError::Load)?;
        }
        Ok(Self {
            main: TableAppender::open(connection, MAIN_TABLE)?,
            quarantine: TableAppender::open(connection, QUARANTINE_TABLE)?,
        })
    }

    /// Hands everything over.
    fn finish(self) -> Result<(), EncodeError> {
        self.main.finish()?;
        self.quarantine.finish()
    }
}

impl<'a> TableAppender<'a> {
    fn open(connection: &'a Connection, table: &str) -> Result<Self, EncodeError> {
        let appender = connection.appender(table).map_err(EncodeError::Load)?;
        Ok(Self { appender, gathered: Vec::new(), gathered_rows: 0, gathered_bytes: 0 })
    }

    fn append(&mut self, columns: Vec<ArrayRef>) -> Result<(), EncodeError> {
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| Field::new(place.to_string(), column.data_type().clone(), true))
            .collect();
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).map_err(EncodeError::Arrow)?;
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += batch.get_array_memory_size();
        self.gathered.push(batch);
        let is_enough = self.gathered_rows >= APPEND_ROWS || self.gathered_bytes >= GATHERED_BYTES_MAX;
        if is_enough { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), EncodeError> {
        let Some(first) = self.gathered.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &self.gathered).map_err(EncodeError::Arrow)?;
        self.gathered.clear();
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        self.appender.append_record_batch(batch).map_err(EncodeError::Load)
    }

    fn finish(mut self) -> Result<(), EncodeError> {
        self.hand_over()?;
        self.appender.flush().map_err(EncodeError::Load)
    }
}

/// Places in the registered schema of the columns that have a value in the segment.
fn columns_with_values(contents: &Contents, registered: &RegisteredSchema) -> Vec<usize> {
    let columns = registered.schema.columns().iter().enumerate();
    let has_values = |name: &str| contents.observed.iter().any(|observed| observed.name == name);
    columns.filter(|(_, column)| has_values(&column.name)).map(|(place, _)| place).collect()
}

/// The statements that take the encoder's tables away.
pub(super) fn drop_tables() -> String {
    [MAIN_TABLE, QUARANTINE_TABLE].iter().map(|name| format!("DROP TABLE IF EXISTS {};", quoted_name(name))).collect()
}

impl Loaded {
    fn take(
        &mut self,
        tables: &mut Tables<'_>,
        decoded: DecodedRows,
        registered: &RegisteredSchema,
        source: &Source<'_>,
    ) -> Result<(), EncodeError> {
        let DecodedRows { columns: values, kept, .. } = decoded;
        if kept.is_empty() {
            return Ok(());
        }
        let days = days_since_1970(source.batch.partition_date);
        let (rows, digest) = self.partitions.entry(source.batch.partition_date).or_default();
        *rows += kept.len() as u64;
        let field_ids: Vec<i32> = self.columns.iter().map(|place| registered.field_ids[*place].id).collect();
        match values.is_empty() {
            true => digest.add_empty(days, kept.len()),
            false => digest.add(days, &field_ids, &values),
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![days; kept.len()]))];
        columns.extend(values);
        tables.main.append(columns)
    }

    fn quarantine(
        &mut self,
        tables: &mut Tables<'_>,
        scanned: &Scanned<'_>,
        misfits: &[Misfit],
        source: &Source<'_>,
    ) -> Result<(), EncodeError> {
        let Source { batch, id, sequence } = source;
        let sequence = *sequence;
        if misfits.is_empty() {
            return Ok(());
        }
        *self.quarantined_by_batch.entry(sequence).or_default() += misfits.len() as u64;
        self.quarantined_rows += misfits.len() as u64;
        let room = PLAN_QUARANTINED_ROWS_MAX.saturating_sub(self.quarantined.len());
        self.quarantined.extend(misfits.iter().take(room).map(|misfit| QuarantinedRow {
            sequence,
            index: misfit.row,
            field: misfit.column.clone(),
            code: misfit.code.to_owned(),
        }));
        let text = |of: &dyn Fn(&Misfit) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(misfits.iter().map(of)))
        };
        let record = |misfit: &Misfit| scanned.record_text(misfit.row as usize).into_owned();
        let digested: [ArrayRef; 3] = [text(&|_| id.clone()), text(&|misfit| misfit.row.to_string()), text(&record)];
        let days = days_since_1970(batch.partition_date);
        self.quarantine_digest.add(days, &[4, 5, 11], &digested);
        let received = TimestampMicrosecondArray::from(vec![batch.received_micros; misfits.len()]);
        let columns: Vec<ArrayRef> = vec![
            Arc::clone(&digested[0]),
            Arc::new(Int64Array::from_iter_values(misfits.iter().map(|misfit| i64::from(misfit.row)))),
            Arc::new(received.with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![days; misfits.len()])),
            text(&|misfit| misfit.column.clone()),
            text(&|misfit| misfit.code.to_owned()),
            text(&|misfit| misfit.detail.clone()),
            Arc::clone(&digested[2]),
        ];
        tables.quarantine.append(columns)
    }
}

#[cfg(test)]
mod tests;
