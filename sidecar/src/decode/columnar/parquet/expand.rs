//! The expansion of a page.
//!
//! Owns: that a page becomes exactly as long as was counted, whatever its bytes are.
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/Compression.md>.

use bytes::Bytes;
use parquet::basic::Compression;

use crate::decode::coding::{ContentCoding, expanded_to};

/// It becomes longer or shorter, or is not what its compression makes.
pub(super) const OTHER_LENGTH: &str = "a page does not become as long as it says";

/// A page's bytes behind the first `levels_bytes` of it, which are never compressed, expanded: `length` in all.
pub(super) fn expanded(
    compression: Compression,
    bytes: Bytes,
    levels_bytes: usize,
    length: usize,
) -> Result<Bytes, &'static str> {
    let (levels, values) = bytes.split_at(levels_bytes);
    let values_bytes = length - levels_bytes;
    let expanded = match compression {
        Compression::UNCOMPRESSED => return if bytes.len() == length { Ok(bytes) } else { Err(OTHER_LENGTH) },
        // A page of nulls alone: there is nothing to expand.
        _ if values_bytes == 0 => Vec::new(),
        Compression::SNAPPY => {
            if snap::raw::decompress_len(values).ok() != Some(values_bytes) {
                return Err(OTHER_LENGTH);
            }
            snap::raw::Decoder::new().decompress_vec(values).map_err(|_| OTHER_LENGTH)?
        }
        Compression::GZIP(_) => expanded_to(ContentCoding::Gzip, values, values_bytes).ok_or(OTHER_LENGTH)?,
        Compression::ZSTD(_) => expanded_to(ContentCoding::Zstd, values, values_bytes).ok_or(OTHER_LENGTH)?,
        Compression::LZ4_RAW => lz4_flex::block::decompress(values, values_bytes).map_err(|_| OTHER_LENGTH)?,
        Compression::LZ4 | Compression::LZO | Compression::BROTLI(_) => return Err(OTHER_LENGTH),
    };
    if expanded.len() != values_bytes {
        return Err(OTHER_LENGTH);
    }
    Ok(if levels.is_empty() { expanded.into() } else { [levels, &expanded].concat().into() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_page_becomes_as_long_as_it_says_or_nothing() {
        let plain = [b"levels".as_slice(), &[7; 100_000]].concat();
        let values = &plain[6..];
        let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
        gzip.write_all(values).expect("memory takes it");
        let packed: [(Compression, Vec<u8>); 4] = [
            (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(values).expect("it is short")),
            (Compression::GZIP(Default::default()), gzip.finish().expect("memory takes it")),
            (Compression::ZSTD(Default::default()), zstd::encode_all(values, 1).expect("memory takes it")),
            (Compression::LZ4_RAW, lz4_flex::block::compress(values)),
        ];
        for (compression, packed) in packed {
            let page = Bytes::from([b"levels".as_slice(), &packed].concat());
            let found = expanded(compression, page.clone(), 6, plain.len()).expect("it is whole");
            assert_eq!(found, plain, "{compression}");
            for length in [7, 1_000, plain.len() - 1, plain.len() + 1, 2 * plain.len()] {
                assert!(expanded(compression, page.clone(), 6, length).is_err(), "{compression} {length}");
            }
            let torn = page.slice(..page.len() - 1);
            assert!(expanded(compression, torn, 6, plain.len()).is_err(), "{compression}");
        }
        assert_eq!(expanded(Compression::UNCOMPRESSED, plain.clone().into(), 0, plain.len()).ok(), Some(plain.into()));
    }
}
