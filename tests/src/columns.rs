//! Records as columns: Arrow's IPC stream and Parquet.
//!
//! Owns: what of a [`record`](crate::ledger::record) has the type of a column, and writing it.
//! Does not own: values of every type (the sidecar's own tests).

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use crate::ledger::{key_of, moment_us};

/// The fields of a record that a body of columns has.
const NAMES: [&str; 6] = ["producer", "sequence", "text", "amount", "even", "moment"];

/// The record that a body of columns holds of `record`.
pub fn flat(record: &Value) -> Value {
    NAMES.iter().map(|name| ((*name).to_owned(), record[*name].clone())).collect()
}

/// Records as Arrow's IPC stream.
///
/// # Panics
/// When they are none of [`flat`].
pub fn arrow_stream(records: &[Value]) -> Vec<u8> {
    let batch = batch_of(records);
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("memory can be written");
    writer.write(&batch).expect("memory can be written");
    writer.into_inner().expect("memory can be written")
}

/// Records as a Parquet file.
///
/// # Panics
/// When they are none of [`flat`].
pub fn parquet(records: &[Value]) -> Vec<u8> {
    let batch = batch_of(records);
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("memory can be written");
    writer.write(&batch).expect("memory can be written");
    writer.into_inner().expect("memory can be written")
}

fn batch_of(records: &[Value]) -> RecordBatch {
    let keys = || records.iter().map(key_of);
    let number = |number: u64| i64::try_from(number).expect("numbers are small");
    let field = |name: &'static str| records.iter().map(move |record| &record[name]);
    let moments = TimestampMicrosecondArray::from_iter_values(keys().map(|(_, sequence)| moment_us(sequence)));
    let columns: [ArrayRef; NAMES.len()] = [
        Arc::new(keys().map(|(producer, _)| Some(number(producer))).collect::<Int64Array>()),
        Arc::new(keys().map(|(_, sequence)| Some(number(sequence))).collect::<Int64Array>()),
        Arc::new(field("text").map(Value::as_str).collect::<StringArray>()),
        Arc::new(field("amount").map(Value::as_f64).collect::<Float64Array>()),
        Arc::new(field("even").map(Value::as_bool).collect::<BooleanArray>()),
        Arc::new(moments.with_timezone("UTC")),
    ];
    RecordBatch::try_from_iter(NAMES.into_iter().zip(columns)).expect("the columns are of one length")
}
