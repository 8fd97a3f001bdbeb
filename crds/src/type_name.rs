//! Types as text: how each is written in a declaration, in the registry, in a journal and in what is shown.
//!
//! Owns: the grammar. Does not own: what a type means, or how it is stored (the sidecar).
//!
//! ```text
//! type   = "bigint" | "double" | "boolean" | "varchar" | "date" | "timestamp" | "uuid" | "binary" | "json"
//!        | "decimal(" precision "," scale ")"
//!        | "list(" type ")" | "map(varchar, " type ")" | "struct(" field { ", " field } ")"
//! field  = name " " type
//! name   = [A-Za-z_][A-Za-z0-9_]{0,127}
//! ```
//!
//! Blanks may stand behind a comma or not, and more of them between a name and its type.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// Digits of a decimal. Source: <https://duckdb.org/docs/stable/sql/data_types/numeric#fixed-point-decimals>.
pub const DECIMAL_PRECISION_MAX: u8 = 38;

/// Levels of a type: lists, maps and structs within each other. More than the records of any service have.
pub const TYPE_DEPTH_MAX: usize = 16;

/// The types without a structure.
pub const SCALARS: [&str; 9] =
    ["bigint", "double", "boolean", "varchar", "date", "timestamp", "uuid", "binary", "json"];

/// A type as its text says it. Names of fields are as they stand there, not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// One of [`SCALARS`].
    Scalar(&'static str),
    /// Numbers of so many digits, of which so many are behind the point.
    Decimal {
        /// Digits, 1 to [`DECIMAL_PRECISION_MAX`].
        precision: u8,
        /// Digits behind the point, at most all of them.
        scale: u8,
    },
    /// Values of one type in an order.
    List(Box<Self>),
    /// Values of one type under texts.
    Map(Box<Self>),
    /// Fields with their names, at least one.
    Struct(Vec<(String, Self)>),
}

/// A text is not the name of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeNameError {
    /// It goes on otherwise than a type does.
    Syntax {
        /// Where. Unit: bytes.
        at: usize,
        /// What has to be there.
        expected: &'static str,
    },
    /// It has too many levels.
    Depth,
}

impl std::fmt::Display for TypeNameError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax { at, expected } => {
                write!(formatter, "the type is not written as one at byte {at}; there has to be {expected}")
            }
            Self::Depth => write!(formatter, "the type has more than {TYPE_DEPTH_MAX} levels"),
        }
    }
}

impl std::error::Error for TypeNameError {}

impl FromStr for TypeName {
    type Err = TypeNameError;

    fn from_str(text: &str) -> Result<Self, TypeNameError> {
        let mut parser = Parser { text, at: 0 };
        let name = parser.type_name(0)?;
        match parser.rest() {
            "" => Ok(name),
            _ => Err(parser.expected("its end")),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> TypeNameError {
        TypeNameError::Syntax { at: self.at, expected }
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_here = self.rest().starts_with(token);
        self.at += if is_here { token.len() } else { 0 };
        is_here
    }

    fn while_byte(&mut self, is_wanted: impl Fn(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| is_wanted(*byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn word(&mut self) -> &'t str {
        self.while_byte(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    fn blanks(&mut self) -> bool {
        !self.while_byte(|byte| byte == b' ').is_empty()
    }

    fn closed<T>(&mut self, inner: T) -> Result<T, TypeNameError> {
        if self.takes(")") { Ok(inner) } else { Err(self.expected("\")\"")) }
    }

    fn type_name(&mut self, depth: usize) -> Result<TypeName, TypeNameError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(TypeNameError::Depth);
        }
        if self.takes("list(") {
            let element = self.type_name(depth + 1)?;
            return self.closed(TypeName::List(Box::new(element)));
        }
        if self.takes("map(varchar,") {
            self.blanks();
            let value = self.type_name(depth + 1)?;
            return self.closed(TypeName::Map(Box::new(value)));
        }
        if self.takes("struct(") {
            return self.fields(depth);
        }
        if self.takes("decimal(") {
            return self.decimal();
        }
        let at = self.at;
        let word = self.word();
        let scalar = SCALARS.iter().find(|name| **name == word).map(|name| TypeName::Scalar(name));
        scalar.ok_or(TypeNameError::Syntax { at, expected: "a type" })
    }

    fn decimal(&mut self) -> Result<TypeName, TypeNameError> {
        let precision = self.number(1..=DECIMAL_PRECISION_MAX, "a number of digits, 1 to 38")?;
        if !self.takes(",") {
            return Err(self.expected("\",\" and the number of digits behind the point"));
        }
        self.blanks();
        let scale = self.number(0..=precision, "a number of digits behind the point, at most as many as there are")?;
        self.closed(TypeName::Decimal { precision, scale })
    }

    fn number(&mut self, range: RangeInclusive<u8>, expected: &'static str) -> Result<u8, TypeNameError> {
        let at = self.at;
        let digits = self.while_byte(|byte| byte.is_ascii_digit());
        let number =
            digits.parse().ok().filter(|number| range.contains(number) && (digits == "0" || !digits.starts_with('0')));
        number.ok_or(TypeNameError::Syntax { at, expected })
    }

    fn fields(&mut self, depth: usize) -> Result<TypeName, TypeNameError> {
        let mut fields = Vec::new();
        loop {
            let name = self.word().to_owned();
            if name.is_empty() || !self.blanks() {
                return Err(self.expected("a name, a blank and a type"));
            }
            fields.push((name, self.type_name(depth + 1)?));
            if self.takes(")") {
                return Ok(TypeName::Struct(fields));
            }
            if !self.takes(",") {
                return Err(self.expected("\",\" or \")\""));
            }
            self.blanks();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_type_is_refused_with_the_place() {
        for (text, at) in [
            ("", 0),
            ("integer", 0),
            ("BIGINT", 0),
            ("bigint ", 6),
            ("list", 0),
            ("list()", 5),
            ("list(bigint", 11),
            ("list(bigint, double)", 11),
            ("struct()", 7),
            ("struct(a)", 8),
            ("struct( a bigint)", 7),
            ("struct(a bigint, )", 17),
            ("struct(a bigint b double)", 15),
            ("map(bigint, double)", 0),
            ("map(varchar)", 0),
            ("map(varchar, double", 19),
            ("decimal", 0),
            ("decimal(18)", 10),
            ("decimal(39,0)", 8),
            ("decimal(0,0)", 8),
            ("decimal(4,5)", 10),
            ("decimal(04,1)", 8),
            ("decimal(4,1,1)", 11),
        ] {
            match text.parse::<TypeName>() {
                Err(TypeNameError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let nested = |depth: usize| format!("{}bigint{}", "list(".repeat(depth), ")".repeat(depth));
        assert!(nested(TYPE_DEPTH_MAX).parse::<TypeName>().is_ok());
        assert_eq!(nested(100_000).parse::<TypeName>(), Err(TypeNameError::Depth));
    }

    #[test]
    fn blanks_are_a_matter_of_taste() {
        let expected: TypeName = "struct(a bigint, b list(double))".parse().expect("a type");
        let map: TypeName = "map(varchar, decimal(4,1))".parse().expect("a type");
        assert_eq!("map(varchar,decimal(4, 1))".parse(), Ok(map));
        for text in ["struct(a bigint,b list(double))", "struct(a  bigint,   b list(double))"] {
            assert_eq!(text.parse::<TypeName>(), Ok(expected.clone()), "{text}");
        }
    }
}
