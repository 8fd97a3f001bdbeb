//! Thrift's compact protocol, as Parquet's footers and page headers use it.
//!
//! Owns: a structure as a tree, within bounds. Does not own: what its fields mean.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use crate::limits::{PARQUET_THRIFT_DEPTH_MAX, PARQUET_THRIFT_ITEMS_MAX};

/// A value of a field or of a list.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// `bool`
    Bool(bool),
    /// `i8`, `i16`, `i32`, `i64`
    Int(i64),
    /// `double`, whose value nobody asks for
    Double,
    /// `binary`, `string`
    Bytes(&'a [u8]),
    /// `list`, `set`
    List(Vec<Item<'a>>),
    /// A structure
    Structure(Structure<'a>),
}

/// Fields with their numbers, which ascend.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Structure<'a>(Vec<(i16, Item<'a>)>);

impl<'a> Structure<'a> {
    /// The field with a number.
    pub(super) fn field(&self, number: i16) -> Option<&Item<'a>> {
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.0[at].1)
    }

    /// The field with a number, if it is an integer.
    pub(super) fn int(&self, number: i16) -> Option<i64> {
        if let Item::Int(value) = self.field(number)? { Some(*value) } else { None }
    }

    /// The field with a number, if it is a length or a count.
    pub(super) fn count(&self, number: i16) -> Option<usize> {
        usize::try_from(self.int(number)?).ok()
    }

    /// The field with a number, if it is a list.
    pub(super) fn list(&self, number: i16) -> Option<&[Item<'a>]> {
        if let Item::List(items) = self.field(number)? { Some(items) } else { None }
    }

    /// The field with a number, if it is a structure.
    pub(super) fn structure(&self, number: i16) -> Option<&Structure<'a>> {
        if let Item::Structure(structure) = self.field(number)? { Some(structure) } else { None }
    }
}

/// The structure that `bytes` begin with, and its length.
///
/// # Errors
/// There is none, or it is beyond a bound: what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<(Structure<'_>, usize), &'static str> {
    let mut reader = Reader { bytes, at: 0, items: 0 };
    let structure = reader.structure(0)?;
    Ok((structure, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or("it ends too early")?;
        self.at += 1;
        Ok(byte)
    }

    fn taken(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("it ends too early")?;
        Ok(&self.bytes[std::mem::replace(&mut self.at, end)..end])
    }

    /// A number of at most 64 bits, seven in a byte, the lowest first.
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("it has a number of more than 64 bits")
    }

    /// A number whose sign is its lowest bit.
    fn int(&mut self) -> Result<i64, &'static str> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn length(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.varint()?).map_err(|_| "it has a length of more than 64 bits")
    }

    fn structure(&mut self, depth: usize) -> Result<Structure<'a>, &'static str> {
        if depth > PARQUET_THRIFT_DEPTH_MAX {
            return Err("it is too deep");
        }
        let mut fields = Vec::new();
        let mut last = 0_i16;
        loop {
            let head = self.byte()?;
            let (delta, kind) = (head >> 4, head & 0x0f);
            if kind == 0 {
                return Ok(Structure(fields));
            }
            let number = match delta {
                0 => i16::try_from(self.int()?).map_err(|_| "a field's number has more than 16 bits")?,
                delta => last.checked_add(i16::from(delta)).ok_or("a field's number has more than 16 bits")?,
            };
            // Every writer has them in this order; one that is there twice would be two things to two readers.
            if number <= last {
                return Err("its fields are not in the order of their numbers");
            }
            last = number;
            let item = match kind {
                TRUE => Item::Bool(true),
                FALSE => Item::Bool(false),
                kind => self.item(kind, depth)?,
            };
            self.count()?;
            fields.push((number, item));
        }
    }

    fn count(&mut self) -> Result<(), &'static str> {
        self.items += 1;
        if self.items > PARQUET_THRIFT_ITEMS_MAX { Err("it has too many values") } else { Ok(()) }
    }

    fn item(&mut self, kind: u8, depth: usize) -> Result<Item<'a>, &'static str> {
        Ok(match kind {
            TRUE | FALSE => Item::Bool(self.byte()? == TRUE),
            3 => Item::Int(i64::from(self.byte()?.cast_signed())),
            4..=6 => Item::Int(self.int()?),
            7 => {
                self.taken(8)?;
                Item::Double
            }
            8 => {
                let length = self.length()?;
                Item::Bytes(self.taken(length)?)
            }
            9 | 10 => Item::List(self.list(depth + 1)?),
            12 => Item::Structure(self.structure(depth + 1)?),
            _ => return Err("it has a value of a type that there is none of"),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Item<'a>>, &'static str> {
        if depth > PARQUET_THRIFT_DEPTH_MAX {
            return Err("it is too deep");
        }
        let head = self.byte()?;
        let length = if head >> 4 == 15 { self.length()? } else { usize::from(head >> 4) };
        // It is as long as it says only once so many are there.
        let mut items = Vec::new();
        for _ in 0..length {
            self.count()?;
            items.push(self.item(head & 0x0f, depth)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_read() {
        // 1: i32 = -3; 3: "ab"; 4: [1, 2] of i32; 5: true; 6: {1: 7}
        let bytes = [0x15, 0x05, 0x28, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x11, 0x1c, 0x15, 14, 0, 0, 99];
        let (structure, length) = read(&bytes).expect("it is a structure");
        assert_eq!(length, bytes.len() - 1);
        assert_eq!(structure.int(1), Some(-3));
        assert_eq!(structure.count(1), None);
        assert_eq!(structure.field(3), Some(&Item::Bytes(b"ab")));
        assert_eq!(structure.list(4), Some([Item::Int(1), Item::Int(2)].as_slice()));
        assert_eq!(structure.field(5), Some(&Item::Bool(true)));
        assert_eq!(structure.structure(6).and_then(|inner| inner.count(1)), Some(7));
        assert_eq!(structure.field(2), None);
    }

    #[test]
    fn what_ends_too_early_is_none_at_every_byte() {
        let bytes = [0x15, 0x05, 0x28, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x1c, 0x15, 14, 0, 0];
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]).err(), Some("it ends too early"), "{length}");
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_none() {
        let deep = vec![0x1c; PARQUET_THRIFT_DEPTH_MAX + 2];
        assert_eq!(read(&deep).err(), Some("it is too deep"));
        let lists = [&[0x19][..], &[0x19; PARQUET_THRIFT_DEPTH_MAX + 2]].concat();
        assert_eq!(read(&lists).err(), Some("it is too deep"));
        // A list that says that it has 2^31 - 1 booleans, and has as many as there may be.
        let long = [&[0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07][..], &vec![1; PARQUET_THRIFT_ITEMS_MAX + 1]].concat();
        assert_eq!(read(&long).err(), Some("it has too many values"));
        assert_eq!(read(&[0x15, 2, 0x05, 2, 2, 0]).err(), Some("its fields are not in the order of their numbers"));
        let endless = [&[0x16][..], &[0xff; 11]].concat();
        assert_eq!(read(&endless).err(), Some("it has a number of more than 64 bits"));
        assert_eq!(read(&[0x1b, 0]).err(), Some("it has a value of a type that there is none of"));
    }
}
