//! Files of every type, well-formed and not, held against the same columns as a stream.

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int8Array, Int64Array, ListArray, NullArray,
};
use arrow_buffer::OffsetBuffer;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, Type};
use parquet::file::metadata::{ColumnChunkMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::super::tests::{batch_of, columnar, damage, nested, scalars, stored, strings};
use super::super::{Columnar, Source};
use super::*;
use crate::schema::Schema;

fn file_with(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch = batch_of(columns);
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).expect("the schema can be written");
    writer.write(&batch).expect("the rows can be written");
    writer.into_inner().expect("the footer can be written")
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    file_with(columns, WriterProperties::builder())
}

fn read(body: &[u8]) -> Result<Columnar, DecodeError> {
    Source::Parquet.read(body, &ScanLimits::DEFAULT)
}

fn refusal(body: &[u8]) -> &'static str {
    let error = read(body).expect_err("it is no body");
    error.violations()[0].code
}

fn everything() -> Vec<(&'static str, ArrayRef)> {
    scalars().into_iter().chain(nested()).collect()
}

/// The file with what `change` makes of the footer's columns.
fn with_columns(
    file: &[u8],
    change: impl Fn(usize, ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
) -> Vec<u8> {
    let footer = footer_start(file);
    let metadata = ParquetMetaDataReader::decode_metadata(&file[footer..file.len() - 8]).expect("it is a footer");
    let mut builder = metadata.into_builder();
    let mut groups = Vec::new();
    for group in builder.take_row_groups() {
        let columns = group.columns().iter().enumerate().map(|(place, column)| {
            change(place, column.clone().into_builder()).build().expect("it is a column, whatever it says")
        });
        groups.push(group.clone().into_builder().set_column_metadata(columns.collect()).build().expect("a row group"));
    }
    let metadata = builder.set_row_groups(groups).build();
    let mut changed = file[..footer].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &metadata).finish().expect("the footer can be written");
    changed
}

fn footer_start(file: &[u8]) -> usize {
    let tail = file.len() - 8;
    tail - usize::try_from(u32::from_le_bytes(file[tail..tail + 4].try_into().expect("four bytes"))).expect("short")
}

/// A file whose footer has a schema of these elements: a name, and how many children it has.
fn file_of_schema(elements: &[(&str, i64)]) -> Vec<u8> {
    let varint = |mut value: u64, bytes: &mut Vec<u8>| {
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).expect("seven bits"));
    };
    // The version; then the elements, a list of structures.
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    varint(elements.len() as u64, &mut footer);
    for (name, children) in elements {
        footer.push(0x48);
        varint(name.len() as u64, &mut footer);
        footer.extend(name.as_bytes());
        footer.push(0x15);
        varint(((children << 1) ^ (children >> 63)).cast_unsigned(), &mut footer);
        footer.push(0);
    }
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    let length = u32::try_from(footer.len()).expect("it is short").to_le_bytes();
    [b"PAR1".as_slice(), &footer, &length, b"PAR1"].concat()
}

#[test]
fn a_file_holds_what_the_stream_of_its_columns_holds() {
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for with_dictionary in [true, false] {
            let columns = everything();
            let rows = columns[0].1.len();
            let mut properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_dictionary_enabled(with_dictionary)
                .set_max_row_group_row_count(Some(2));
            for column in texts_of(&file(everything())) {
                properties = properties.set_column_encoding(column, Encoding::PLAIN);
            }
            let found = read(&file_with(columns, properties)).unwrap_or_else(|error| panic!("{error}"));
            let expected = columnar(everything());
            assert_eq!(found.columns(), expected.columns());
            assert_eq!(found.lines(0..rows, usize::MAX, usize::MAX), expected.lines(0..rows, usize::MAX, usize::MAX));
            let (found, expected) = (stored(found, &Schema::empty()), stored(expected, &Schema::empty()));
            assert_eq!(found.1.kept, expected.1.kept);
            for (found, expected) in found.1.columns.iter().zip(&expected.1.columns) {
                assert_eq!(found.as_ref(), expected.as_ref());
            }
        }
    }
}

/// The columns of texts and bytes, of which the second version of the format writes differences.
fn texts_of(file: &[u8]) -> Vec<ColumnPath> {
    let footer = &file[footer_start(file)..file.len() - 8];
    let metadata = ParquetMetaDataReader::decode_metadata(footer).expect("it is a footer");
    let columns = metadata.file_metadata().schema_descr().columns().iter();
    let texts =
        columns.filter(|column| matches!(column.physical_type(), Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY));
    texts.map(|column| column.path().clone()).collect()
}

#[test]
fn what_is_no_file_is_refused() {
    let whole = file(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    for (fault, bytes) in [
        ("nothing", b"".as_slice()),
        ("JSON", b"{\"records\":[]}"),
        ("no beginning", &whole[4..]),
        ("no end", &whole[..whole.len() - 1]),
        ("a footer that is longer", b"PAR1\xff\xff\xff\xffPAR1"),
        ("an encrypted footer", b"PAR1\x00\x00\x00\x00PARE"),
        ("an empty footer", b"PAR1\x00\x00\x00\x00PAR1"),
    ] {
        assert_eq!(refusal(bytes), "parquet-file", "{fault}");
    }
    assert_eq!(refusal(&file(vec![("a", Arc::new(Int64Array::from(Vec::<i64>::new())))])), "no-records");
}

#[test]
fn pages_that_are_not_read_are_refused_with_what_to_do() {
    let texts = || vec![("a", strings(vec![Some("x"), Some("y")]))];
    for encoding in [Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        let properties = WriterProperties::builder().set_dictionary_enabled(false).set_encoding(encoding);
        assert_eq!(refusal(&file_with(texts(), properties)), "unsupported-pages", "{encoding}");
    }
    let plain = file(texts());
    for compression in [Compression::LZ4, Compression::LZO, Compression::BROTLI(Default::default())] {
        let body = with_columns(&plain, |_, column| column.set_compression(compression));
        assert_eq!(refusal(&body), "unsupported-pages", "{compression}");
    }
}

/// Invariant I12: what is short in a file can stand for much, and is counted before it is made.
#[test]
fn i12_a_file_that_stands_for_too_much_is_refused() {
    assert_eq!(refusal(&file(vec![("a", Arc::new(NullArray::new(200_000)))])), "too-many-records");
    let nulls: Vec<(String, ArrayRef)> =
        (0..100).map(|name| (format!("c{name}"), arrow_array::new_null_array(&DataType::Int64, 90_000))).collect();
    let nulls = nulls.iter().map(|(name, array)| (name.as_str(), Arc::clone(array))).collect();
    assert_eq!(refusal(&file(nulls)), "too-many-values");

    let long = "x".repeat(1 << 20);
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<arrow_array::types::Int8Type>::new(
        Int8Array::from(vec![0; 1_000]),
        strings(vec![Some(&long)]),
    ));
    assert_eq!(refusal(&file(vec![("a", Arc::clone(&dictionary))])), "body-too-large");
    let one_list = ListArray::new(
        Arc::new(Field::new("item", dictionary.data_type().clone(), true)),
        OffsetBuffer::from_lengths([dictionary.len()]),
        dictionary,
        None,
    );
    assert_eq!(refusal(&file(vec![("a", Arc::new(one_list))])), "body-too-large");
    let wide = FixedSizeBinaryArray::try_from_sparse_iter_with_size([None::<[u8; 0]>; 100].into_iter(), 1 << 20);
    assert_eq!(refusal(&file(vec![("a", Arc::new(wide.expect("it has nulls alone")))])), "body-too-large");

    let elements = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1); (8 << 20) + 1])]);
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
    assert_eq!(refusal(&file_with(vec![("a", Arc::new(elements))], properties)), "too-many-values");
}

/// Invariant I12: a schema is bounded before the library goes through it, level by level.
#[test]
fn i12_a_schema_beyond_its_bounds_is_refused() {
    let leaves = |count: i64| -> Vec<(&str, i64)> {
        [("root", count)].into_iter().chain((0..count).map(|_| ("a", 0))).collect()
    };
    assert_eq!(refusal(&file_of_schema(&leaves(1_001))), "too-many-columns");
    let chain: Vec<_> = (0..100_000).map(|_| ("a", 1)).collect();
    for (fault, elements) in [
        ("levels", chain.as_slice()),
        ("no element", &[]),
        ("no child", &[("root", 1)]),
        ("negative", &[("root", -1), ("a", 0)]),
        ("more than there are", &[("root", 1 << 30), ("a", 0)]),
        ("two roots", &[("root", 1), ("a", 0), ("b", 0)]),
        ("a long name", &[("root", 1), (&"n".repeat(2_000), 0)]),
    ] {
        assert_eq!(refusal(&file_of_schema(elements)), "parquet-file", "{fault}");
    }
}

#[test]
fn a_footer_that_lies_about_its_columns_is_refused() {
    let columns = || -> Vec<(&str, ArrayRef)> {
        vec![("a", Arc::new(Int64Array::from(vec![1, 2]))), ("b", Arc::new(Int64Array::from(vec![3, 4])))]
    };
    let whole = file(columns());
    assert!(read(&with_columns(&whole, |_, column| column)).is_ok());
    for (fault, body) in [
        ("beyond the end", with_columns(&whole, |_, column| column.set_total_compressed_size(i64::from(i32::MAX)))),
        ("negative", with_columns(&whole, |_, column| column.set_total_compressed_size(-1))),
        (
            "before the beginning",
            with_columns(&whole, |_, column| column.set_dictionary_page_offset(None).set_data_page_offset(-5)),
        ),
        (
            "the same place",
            with_columns(&whole, |_, column| {
                column
                    .set_dictionary_page_offset(None)
                    .set_data_page_offset(0)
                    .set_total_compressed_size(i64::try_from(whole.len()).expect("it is short"))
            }),
        ),
        ("another file", with_columns(&whole, |_, column| column.set_file_path("elsewhere.parquet".to_owned()))),
        ("compressed, but it is not", with_columns(&whole, |_, column| column.set_compression(Compression::SNAPPY))),
    ] {
        assert_eq!(refusal(&body), "parquet-file", "{fault}");
    }
}

/// Invariant I12: one part of a file that many columns name would become any number of them.
#[test]
fn i12_columns_that_lie_at_one_place_are_refused() {
    let numbers: Vec<i64> = (0..5_000).map(|number| number * 1_000_003).collect();
    let columns = || -> Vec<(&str, ArrayRef)> {
        let nulls = Int64Array::from(vec![None::<i64>; 5_000]);
        vec![("a", Arc::new(Int64Array::from(numbers.clone()))), ("b", Arc::new(nulls))]
    };
    let whole = file_with(columns(), WriterProperties::builder().set_dictionary_enabled(false));
    let metadata = ParquetMetaDataReader::decode_metadata(&whole[footer_start(&whole)..whole.len() - 8]);
    let first = metadata.expect("it is a footer").row_group(0).column(0).clone();
    let body = with_columns(&whole, |_, column| {
        column.set_data_page_offset(first.data_page_offset()).set_total_compressed_size(first.compressed_size())
    });
    let error = read(&body).expect_err("it is refused");
    assert!(error.violations()[0].detail.contains("at the same place"), "{}", error.violations()[0].detail);
}

/// Whatever the bytes are, they are refused or they are records; nothing else comes of them.
#[test]
fn a_damaged_file_makes_no_panic() {
    let small = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
    let whole = file_with(everything(), small);
    damage(&whole, read);
}

#[test]
fn a_page_with_another_checksum_is_refused() {
    // The library writes none, so that here is one by hand: that there is a value, and it, plain.
    let sum = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    };
    let values = [&[2, 0, 0, 0, 2, 1], 42_i64.to_le_bytes().as_slice()].concat();
    for (crc, is_well) in [(sum(&values), true), (sum(&values) ^ 1, false)] {
        let mut page = vec![0x15, 0, 0x15, 28, 0x15, 28, 0x15];
        let mut zigzag = u64::from(((crc.cast_signed() << 1) ^ (crc.cast_signed() >> 31)).cast_unsigned());
        while zigzag >= 0x80 {
            page.push(u8::try_from(zigzag & 0x7f).expect("seven bits") | 0x80);
            zigzag >>= 7;
        }
        page.push(u8::try_from(zigzag).expect("seven bits"));
        page.extend([0x1c, 0x15, 2, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0]);
        page.extend(&values);
        let whole = file(vec![("a", Arc::new(Int64Array::from(vec![42])))]);
        let start = i64::try_from(footer_start(&whole)).expect("it is short");
        let length = i64::try_from(page.len()).expect("it is short");
        let moved = with_columns(&whole, |_, column| {
            column.set_dictionary_page_offset(None).set_data_page_offset(start).set_total_compressed_size(length)
        });
        // The page goes where the footer began.
        let start = footer_start(&whole);
        let body = [&moved[..start], &page, &moved[start..]].concat();
        let found = read(&body);
        assert_eq!(found.is_ok(), is_well, "{:?}", found.err().map(|error| error.to_string()));
        if let Ok(found) = found {
            assert_eq!(found.record_text(0), r#"{"a":42}"#);
        }
    }
}
