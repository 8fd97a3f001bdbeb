//! A segment's batches into the encoder's tables.
//!
//! Owns: reading the journal, decoding, the split into rows that fit and rows that do not. Upholds I5.
//! Does not own: how many rows a table takes (`tables`), files (`copy`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow_select::take::take;
use chrono::NaiveDate;
use duckdb::Connection;

use crate::decode::{Columnar, DecodedRows, Records, ScanLimits, Target, Value};
use crate::encode::EncodeJob;
use crate::encode::copy::{EncodedFile, FileWriter};
use crate::encode::error::EncodeError;
use crate::encode::session::{Scratch, quoted_name};
use crate::encode::tables::{APPEND_ROWS, Rows, Tables, split_rows};
use crate::encode::transform::{Evaluation, Piece};
use crate::journal::batch::{Batch, days_since_1970};
use crate::journal::control::{FileRole, PLAN_FIELD_BYTES_MAX, PLAN_QUARANTINED_ROWS_MAX, QuarantinedRow};
use crate::journal::reader::SegmentReader;
use crate::journal::segment::Contents;
use crate::limits::RECORD_CELLS_MAX;
use crate::schema::registry::RegisteredSchema;
use crate::schema::{Column, ColumnType, DayRule, Misfit, Rules, Schema, Transform, list_cells};
use crate::seeded::{self, Bug};

/// Name of the tables with the rows that fit, in front of their number. No user's table or column can be named so.
const MAIN_TABLE: &str = "#main";

/// Name of the tables with the records that do not fit, in front of their number.
const QUARANTINE_TABLE: &str = "#quarantine";

/// Column of the tables with the rows that fit: the partition's date as days since 1970.
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

/// What became of a segment.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Its files, in the order of their numbers.
    pub(super) files: Vec<EncodedFile>,
    /// Rows of each batch that do not fit, by the batch's sequence.
    pub(super) quarantined_by_batch: BTreeMap<u64, u64>,
    /// The first of them, for the plan.
    pub(super) quarantined: Vec<QuarantinedRow>,
    /// How many do not fit.
    pub(super) quarantined_rows: u64,
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
        ColumnType::Uuid => "UUID",
        ColumnType::Binary => "BLOB",
        ColumnType::Decimal { precision, scale } => return format!("DECIMAL({precision},{scale})").into(),
        ColumnType::List(element) => return format!("{}[]", sql_type(element)).into(),
        ColumnType::Map(value) => return format!("MAP(VARCHAR, {})", sql_type(value)).into(),
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

/// Code of a record on which its table's transform fails.
const TRANSFORM_CODE: &str = "transform";

/// Loads a segment, or some rows of it, and writes each table to files when it is full. A failure leaves tables behind.
pub(super) fn load(
    connection: &Connection,
    scratch: &Scratch,
    job: &EncodeJob,
    selection: &Selection,
) -> Result<Loaded, EncodeError> {
    let contents = &*job.contents;
    let mut loading = Loading::begin(connection, scratch, job)?;
    let mut reader = SegmentReader::open(&job.journal, contents).map_err(EncodeError::Journal)?;
    let mut rows = 0;
    while let Some((sequence, batch)) = reader.next_batch().map_err(EncodeError::Journal)? {
        loading.batch(sequence, &batch, selection, rows)?;
        rows += u64::from(batch.rows);
    }
    let loaded = loading.finish()?;
    if rows == contents.rows {
        Ok(loaded)
    } else {
        Err(EncodeError::RowCount { segment: contents.number, expected: contents.rows, found: rows })
    }
}

/// Records that are decoded at once at the most. Unit: bytes of their texts. A table's every column is made for them,
/// whatever the batch has.
const SLICE_BYTES_MAX: usize = 8 << 20;

/// Values in the lists of records that are decoded at once, beside those of the last one.
const SLICE_CELLS_MAX: usize = RECORD_CELLS_MAX;

/// The records from `first` on that are decoded at once: at least one.
fn slice_from(records: &Records<'_>, first: usize, lists: &Lists<'_>) -> Range<usize> {
    match records {
        Records::Text(scanned) => slice_of(records, first, |index| {
            let record = scanned.record(index);
            (record.raw().len(), lists.cells(record))
        }),
        // By what came, and not by what the table has become: in which form its values arrive must not change where it is
        // split.
        Records::Columns(columns) => slice_of(records, first, |index| weight_of(columns, index)),
    }
}

/// The bytes and the values in lists of a record, where all of them are too much for one slice.
fn weight_of(columns: &Columnar, index: usize) -> (usize, usize) {
    let bytes = if columns.all_bytes() <= SLICE_BYTES_MAX { 0 } else { columns.record_bytes(index) };
    let cells = if columns.all_list_cells() <= SLICE_CELLS_MAX { 0 } else { columns.list_cells(index) };
    (bytes, cells)
}

/// As [`slice_from`]; `weigh` gives the bytes and the values in lists of a record.
fn slice_of(records: &Records<'_>, first: usize, weigh: impl Fn(usize) -> (usize, usize)) -> Range<usize> {
    let vector = records.record_count().min(first + APPEND_ROWS);
    let (mut end, mut bytes, mut cells) = (first, 0, 0);
    while end < vector {
        let (record_bytes, record_cells) = weigh(end);
        bytes += record_bytes;
        cells += record_cells;
        if (bytes > SLICE_BYTES_MAX || cells > SLICE_CELLS_MAX) && end > first {
            break;
        }
        end += 1;
    }
    first..end
}

/// The columns with a value in a segment that are lists or have some inside. Others would change where it is split, though
/// they are not of it.
struct Lists<'r> {
    columns: HashMap<&'r str, &'r ColumnType>,
}

impl<'r> Lists<'r> {
    fn of(schema: &'r Schema, places: &[usize]) -> Self {
        let columns = places.iter().map(|place| &schema.columns()[*place]);
        let columns = columns.filter(|column| column.column_type.has_list());
        Self { columns: columns.map(|column| (column.name.as_str(), &column.column_type)).collect() }
    }

    /// Values that the lists of a record become.
    fn cells(&self, record: Value<'_>) -> usize {
        if self.columns.is_empty() {
            return 0;
        }
        let of_member = |(name, value): (Cow<'_, str>, Value<'_>)| {
            self.columns.get(&*name).map_or(0, |column_type| list_cells(column_type, value))
        };
        record.members().map(of_member).sum()
    }
}

/// See [`Bug::PoisonRecord`] and those like it.
fn fail_on_poison(rows: &DecodedRows, records: &Records<'_>) -> Result<(), EncodeError> {
    let is_poison = |row: &u32| records.record_text(*row as usize).contains(seeded::POISON);
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

/// Places in the registered schema of the columns that have a value in the segment.
fn columns_with_values(contents: &Contents, registered: &RegisteredSchema) -> Vec<usize> {
    let columns = registered.schema.columns().iter().enumerate();
    let has_values = |name: &str| contents.observed.iter().any(|observed| observed.name == name);
    columns.filter(|(_, column)| has_values(&column.name)).map(|(place, _)| place).collect()
}

/// A segment that is being loaded.
struct Loading<'a> {
    job: &'a EncodeJob,
    connection: &'a Connection,
    loaded: Loaded,
    /// Places in the registered schema of the columns that are loaded: those with a value in the segment. The others are
    /// null in every row.
    columns: Vec<usize>,
    /// Their field ids.
    field_ids: Vec<i32>,
    main: Tables<'a>,
    quarantine: Tables<'a>,
    writer: FileWriter<'a>,
}

impl<'a> Loading<'a> {
    fn begin(connection: &'a Connection, scratch: &'a Scratch, job: &'a EncodeJob) -> Result<Self, EncodeError> {
        let registered = &*job.registered;
        let columns = columns_with_values(&job.contents, registered);
        let own = columns.iter().map(|place| &registered.schema.columns()[*place]);
        let own = own.map(|column| format!(", {} {}", quoted_name(&column.name), sql_type(&column.column_type)));
        let main = format!("{} INTEGER{}", quoted_name(DAY_COLUMN), own.collect::<String>());
        let quarantine = QUARANTINE_COLUMNS.iter().map(|(name, sql, _)| format!("{} {sql}", quoted_name(name)));
        let quarantine = quarantine.collect::<Vec<_>>().join(", ");
        let row_group_rows = split_rows(job);
        Ok(Self {
            job,
            connection,
            loaded: Loaded::default(),
            field_ids: columns.iter().map(|place| registered.field_ids[*place].id).collect(),
            main: Tables::create(connection, MAIN_TABLE, main, row_group_rows)?,
            quarantine: Tables::create(connection, QUARANTINE_TABLE, quarantine, row_group_rows)?,
            writer: FileWriter::new(connection, scratch, job, columns.clone()),
            columns,
        })
    }

    /// Loads what is wanted of a batch, which begins at row `start` of the segment.
    fn batch(&mut self, sequence: u64, batch: &Batch, selection: &Selection, start: u64) -> Result<(), EncodeError> {
        let EncodeJob { contents, registered, segment, .. } = self.job;
        let known = contents.schemas.get(&batch.schema);
        let known = known.ok_or(EncodeError::UnknownSchema { segment: contents.number, sequence })?;
        let decode_error = |source| EncodeError::Decode { segment: contents.number, sequence, source };
        let body = batch.body.decoded().map_err(decode_error)?;
        let records = Records::read(batch.format, &body, &ScanLimits::ACCEPTED).map_err(decode_error)?;
        let mut present = batch.present.clone();
        present.resize(known.len(), false);
        let rules = Rules::new(known, batch.day_rule());
        let transform = known.constraints().transform.as_deref();
        // What is computed from records needs all that they may have, as they were accepted.
        let (stored_as, wanted) = match transform {
            Some(_) => (known, (0..known.len()).collect()),
            None => (&registered.schema, self.columns.clone()),
        };
        let lists = Lists::of(stored_as, &wanted);
        let target = Target { rules, present: &present, registered: stored_as, wanted: &wanted };
        let source = Source { batch, id: format!("{}-{sequence}", segment.journal), sequence };
        let mut first = 0;
        while first < records.record_count() {
            let slice = slice_from(&records, first, &lists);
            first = slice.end;
            let mut decoded = records.decode(&target, slice).map_err(decode_error)?;
            selection.apply(&mut decoded, sequence, start)?;
            if [Bug::PoisonRecord, Bug::DeadlyRecord, Bug::PanickingRecord].into_iter().any(seeded::is) {
                fail_on_poison(&decoded, &records)?;
            }
            if let Some(transform) = transform {
                let misfits = self.transformed(known, transform, &mut decoded, &source)?;
                self.quarantine(&records, &misfits, &source)?;
            } else {
                self.quarantine(&records, &decoded.misfits, &source)?;
                self.take(decoded, batch.partition_date)?;
            }
        }
        Ok(())
    }

    /// Computes rows from records and takes those that fit; the records that do not, ascending.
    fn transformed(
        &mut self,
        known: &Schema,
        transform: &Transform,
        decoded: &mut DecodedRows,
        source: &Source<'_>,
    ) -> Result<Vec<Misfit>, EncodeError> {
        let EncodeJob { contents, registered, .. } = self.job;
        let decode_error =
            |error| EncodeError::Decode { segment: contents.number, sequence: source.sequence, source: error };
        let computed = Schema::new(transform.columns.clone());
        let computed = computed.map_err(|_| EncodeError::Transform { sequence: source.sequence })?;
        let date = source.batch.partition_date;
        let (present, wanted) = (vec![true; computed.len()], self.columns.clone());
        let rules = Rules::new(&computed, DayRule::Named(date));
        let target = Target { rules, present: &present, registered: &registered.schema, wanted: &wanted };
        let mut misfits = std::mem::take(&mut decoded.misfits);
        let columns = std::mem::take(&mut decoded.columns);
        let mut evaluation = Evaluation::new(self.connection, known, transform, &columns, decoded.kept.len());
        while let Some(piece) = evaluation.next()? {
            let (range, body) = match piece {
                Piece::Rows(range, body) => (range, Records::Columns(body)),
                Piece::Failed(place, reason) => {
                    let detail = format!("the table's transform fails on this record: {reason}");
                    let (column, code) = (String::new(), TRANSFORM_CODE);
                    misfits.push(Misfit { row: decoded.kept[place], column, code, detail });
                    continue;
                }
            };
            let mut rows = body.decode(&target, 0..range.len()).map_err(decode_error)?;
            let place = |row: u32| range.start + row as usize;
            rows.days = decoded.days.as_ref().map(|days| rows.kept.iter().map(|row| days[place(*row)]).collect());
            rows.kept.iter_mut().for_each(|row| *row = decoded.kept[place(*row)]);
            rows.misfits.iter_mut().for_each(|misfit| misfit.row = decoded.kept[place(misfit.row)]);
            misfits.append(&mut rows.misfits);
            self.take(rows, date)?;
        }
        misfits.sort_by_key(|misfit| misfit.row);
        Ok(misfits)
    }

    /// Appends rows to the tables; where each has a day of its own, those of one day after those of another.
    fn take(&mut self, decoded: DecodedRows, date: NaiveDate) -> Result<(), EncodeError> {
        let DecodedRows { columns, kept, days, .. } = decoded;
        let Some(days) = days.filter(|days| !days.is_empty()) else { return self.append(date, kept.len(), columns) };
        let mut rows_of: BTreeMap<NaiveDate, Vec<u32>> = BTreeMap::new();
        for (row, day) in (0..).zip(&days) {
            rows_of.entry(*day).or_default().push(row);
        }
        if let [(day, rows)] = Vec::from_iter(&rows_of).as_slice() {
            return self.append(**day, rows.len(), columns);
        }
        for (day, rows) in rows_of {
            let rows = UInt32Array::from(rows);
            let of_day = columns.iter().map(|column| take(column, &rows, None));
            self.append(day, rows.len(), of_day.collect::<Result<_, _>>().map_err(EncodeError::Arrow)?)?;
        }
        Ok(())
    }

    /// Appends `count` rows of one day.
    fn append(&mut self, date: NaiveDate, count: usize, values: Vec<ArrayRef>) -> Result<(), EncodeError> {
        if count == 0 {
            return Ok(());
        }
        let days = days_since_1970(date);
        let rows = match values.is_empty() {
            true => Rows::without_columns(days, count),
            false => Rows::of(days, &self.field_ids, &values),
        };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![days; count]))];
        columns.extend(values);
        match self.main.append(date, &rows, columns)? {
            Some(full) => self.writer.write(FileRole::Main, &full),
            None => Ok(()),
        }
    }

    /// Notes records that do not fit, and sets them aside so many at a time that their texts can be held at once.
    fn quarantine(
        &mut self,
        records: &Records<'_>,
        misfits: &[Misfit],
        source: &Source<'_>,
    ) -> Result<(), EncodeError> {
        if misfits.is_empty() {
            return Ok(());
        }
        let loaded = &mut self.loaded;
        *loaded.quarantined_by_batch.entry(source.sequence).or_default() += misfits.len() as u64;
        loaded.quarantined_rows += misfits.len() as u64;
        let room = PLAN_QUARANTINED_ROWS_MAX.saturating_sub(loaded.quarantined.len());
        let listed = misfits.iter().filter(|misfit| misfit.column.len() <= PLAN_FIELD_BYTES_MAX).take(room);
        loaded.quarantined.extend(listed.map(|misfit| QuarantinedRow {
            sequence: source.sequence,
            index: misfit.row,
            field: misfit.column.clone(),
            code: misfit.code.to_owned(),
        }));
        let mut rest = misfits;
        while !rest.is_empty() {
            let (mut bytes, mut count) = (0, 0);
            while count < rest.len() && (count == 0 || bytes < SLICE_BYTES_MAX) {
                bytes += records.record_text(rest[count].row as usize).len();
                count += 1;
            }
            self.set_aside(records, &rest[..count], source)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    fn set_aside(
        &mut self,
        records: &Records<'_>,
        misfits: &[Misfit],
        Source { batch, id, .. }: &Source<'_>,
    ) -> Result<(), EncodeError> {
        let text = |of: &dyn Fn(&Misfit) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(misfits.iter().map(of)))
        };
        let record = |misfit: &Misfit| records.record_text(misfit.row as usize).into_owned();
        let digested: [ArrayRef; 3] = [text(&|_| id.clone()), text(&|misfit| misfit.row.to_string()), text(&record)];
        let days = days_since_1970(batch.partition_date);
        let rows = Rows::of(days, &[4, 5, 11], &digested);
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
        match self.quarantine.append(self.job.seal.sealed_at.date_naive(), &rows, columns)? {
            Some(full) => self.writer.write(FileRole::Quarantine, &full),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Loaded, EncodeError> {
        self.writer.write(FileRole::Main, &self.main.finish()?)?;
        self.writer.write(FileRole::Quarantine, &self.quarantine.finish()?)?;
        self.loaded.files = self.writer.finish()?;
        Ok(self.loaded)
    }
}
