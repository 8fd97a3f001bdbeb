//! Streams that no writer makes.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array};
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::super::tests::{batch_of, read, refusal, stream};
use super::*;

type FieldOffset<'a> = WIPOffset<arrow_ipc::Field<'a>>;

/// A stream that is a schema and its end.
fn schema_alone(
    endianness: Endianness,
    fields: impl for<'a> FnOnce(&mut FlatBufferBuilder<'a>) -> Vec<FieldOffset<'a>>,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let fields = fields(&mut builder);
    let fields = Some(builder.create_vector(&fields));
    let arguments = arrow_ipc::SchemaArgs { endianness, fields, ..arrow_ipc::SchemaArgs::default() };
    let schema = arrow_ipc::Schema::create(&mut builder, &arguments);
    let arguments = arrow_ipc::MessageArgs {
        version: arrow_ipc::MetadataVersion::V5,
        header_type: arrow_ipc::MessageHeader::Schema,
        header: Some(schema.as_union_value()),
        bodyLength: 0,
        custom_metadata: None,
    };
    let message = Message::create(&mut builder, &arguments);
    builder.finish(message, None);
    let mut head = builder.finished_data().to_vec();
    head.resize(head.len().next_multiple_of(8), 0);
    let length = i32::try_from(head.len()).expect("it is short").to_le_bytes();
    [&CONTINUATION, &length, head.as_slice(), &CONTINUATION, &[0; 4]].concat()
}

fn integer<'a>(builder: &mut FlatBufferBuilder<'a>, name: &str) -> FieldOffset<'a> {
    let name = builder.create_string(name);
    let of_type = arrow_ipc::Int::create(builder, &arrow_ipc::IntArgs { bitWidth: 64, is_signed: true });
    let children = builder.create_vector::<FieldOffset<'_>>(&[]);
    let arguments = arrow_ipc::FieldArgs {
        name: Some(name),
        nullable: true,
        type_type: arrow_ipc::Type::Int,
        type_: Some(of_type.as_union_value()),
        children: Some(children),
        ..arrow_ipc::FieldArgs::default()
    };
    arrow_ipc::Field::create(builder, &arguments)
}

/// Invariant I12: a field that is named often is made as often.
#[test]
fn i12_a_schema_that_names_one_field_often_is_refused() {
    let of_one =
        |times: usize| schema_alone(Endianness::Little, |builder| vec![integer(builder, &"n".repeat(10_000)); times]);
    assert_eq!(refusal(&of_one(1)), "no-records");
    assert_eq!(refusal(&of_one(100)), "arrow-stream");
    // So many of their own are what writers make.
    let many = schema_alone(Endianness::Little, |builder| {
        (0..900).map(|number| integer(builder, &format!("c{number}"))).collect()
    });
    assert_eq!(refusal(&many), "no-records");
}

#[test]
fn numbers_of_the_other_endianness_are_refused() {
    let said = |endianness| {
        let error = read(&schema_alone(endianness, |builder| vec![integer(builder, "a")])).expect_err("it has no rows");
        error.violations()[0].detail.clone()
    };
    assert!(said(Endianness::Big).contains("little-endian"));
    assert!(!said(Endianness::Little).contains("little-endian"));
}

/// Invariant I12: the reader copies a buffer as often as it is named.
#[test]
fn i12_buffers_that_lie_at_one_place_are_refused() {
    let one: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let mut whole = stream(vec![("a", Arc::clone(&one)), ("b", one)]);
    assert!(read(&whole).is_ok());
    // A buffer is its offset and its length, here of one value.
    let values: Vec<usize> = (0..whole.len() - 16).filter(|at| whole[at + 8..at + 16] == 8_i64.to_le_bytes()).collect();
    assert_eq!(values.len(), 2);
    let second = i64::from_le_bytes(whole[values[1]..values[1] + 8].try_into().expect("eight bytes"));
    // Both are all that there is up to the end of the second.
    for at in values {
        whole[at..at + 8].copy_from_slice(&0_i64.to_le_bytes());
        whole[at + 8..at + 16].copy_from_slice(&(second + 8).to_le_bytes());
    }
    let error = read(&whole).expect_err("it is refused");
    assert!(error.violations()[0].detail.contains("the same place"), "{}", error.violations()[0].detail);
}

/// Invariant I12: a dictionary that is added to is made anew each time.
#[test]
fn i12_dictionaries_that_are_added_to_are_refused_with_what_to_do() {
    let texts =
        |texts: &[&str]| -> ArrayRef { Arc::new(texts.iter().copied().collect::<DictionaryArray<Int32Type>>()) };
    let batches = [&["x"][..], &["x", "y"]].map(|values| batch_of(vec![("a", texts(values))]));
    let written = |handling| {
        let options = IpcWriteOptions::default().with_dictionary_handling(handling);
        let writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options);
        let mut writer = writer.expect("the schema can be written");
        batches.iter().for_each(|batch| writer.write(batch).expect("the batch can be written"));
        writer.into_inner().expect("the end can be written")
    };
    assert_eq!(refusal(&written(DictionaryHandling::Delta)), "delta-dictionaries");
    assert!(read(&written(DictionaryHandling::Resend)).is_ok());
}
