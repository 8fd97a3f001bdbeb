//! Types as text: the one way to write each, in the registry, in a journal and in what is shown.
//!
//! Owns: the grammar. Does not own: what a type means (`types`).
//!
//! ```text
//! type   = "bigint" | "double" | "boolean" | "varchar" | "date" | "timestamp" | "json"
//!        | "list(" type ")" | "struct(" field { ", " field } ")"
//! field  = name " " type
//! name   = [A-Za-z_][A-Za-z0-9_]{0,127}
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::fields::{Fields, FieldsError};
use super::types::{Column, ColumnType};
use crate::limits::TYPE_DEPTH_MAX;

/// A text is not the name of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeNameError {
    /// It goes on otherwise than a type does.
    #[error("the type is not written as one at byte {at}; there has to be {expected}")]
    Syntax {
        /// Where. Unit: bytes.
        at: usize,
        /// What has to be there.
        expected: &'static str,
    },
    /// It has too many levels.
    #[error("the type has more than {} levels", TYPE_DEPTH_MAX)]
    Depth,
    /// The fields of a struct cannot stand beside each other.
    #[error("a struct cannot have these fields")]
    Fields(#[from] FieldsError),
}

const SCALARS: [(&str, ColumnType); 7] = [
    ("bigint", ColumnType::Bigint),
    ("double", ColumnType::Double),
    ("boolean", ColumnType::Boolean),
    ("varchar", ColumnType::Varchar),
    ("date", ColumnType::Date),
    ("timestamp", ColumnType::Timestamp),
    ("json", ColumnType::Json),
];

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(element) => write!(formatter, "list({element})"),
            Self::Struct(fields) => {
                formatter.write_str("struct(")?;
                for (place, Column { name, column_type }) in fields.columns().iter().enumerate() {
                    let comma = if place > 0 { ", " } else { "" };
                    write!(formatter, "{comma}{name} {column_type}")?;
                }
                formatter.write_str(")")
            }
            _ => formatter.write_str(self.family()),
        }
    }
}

impl ColumnType {
    /// The name without what is inside.
    pub fn family(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Struct(_) => "struct",
            _ => SCALARS.iter().find(|(_, scalar)| scalar == self).map_or("json", |(name, _)| name),
        }
    }
}

impl FromStr for ColumnType {
    type Err = TypeNameError;

    fn from_str(text: &str) -> Result<Self, TypeNameError> {
        let mut parser = Parser { text, at: 0 };
        let column_type = parser.column_type(0)?;
        match parser.rest() {
            "" => Ok(column_type),
            _ => Err(parser.expected("its end")),
        }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = TypeNameError;

    fn try_from(text: String) -> Result<Self, TypeNameError> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(column_type: ColumnType) -> Self {
        column_type.to_string()
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

    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        self.at += length;
        &rest[..length]
    }

    fn column_type(&mut self, depth: usize) -> Result<ColumnType, TypeNameError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(TypeNameError::Depth);
        }
        if self.takes("list(") {
            let element = self.column_type(depth + 1)?;
            return if self.takes(")") { Ok(ColumnType::list_of(element)) } else { Err(self.expected("\")\"")) };
        }
        if self.takes("struct(") {
            return self.fields(depth);
        }
        let at = self.at;
        let word = self.word();
        let scalar = SCALARS.iter().find(|(name, _)| *name == word).map(|(_, scalar)| scalar.clone());
        scalar.ok_or(TypeNameError::Syntax { at, expected: "a type" })
    }

    fn fields(&mut self, depth: usize) -> Result<ColumnType, TypeNameError> {
        let mut fields = Fields::default();
        loop {
            let name = self.word().to_owned();
            if !self.takes(" ") {
                return Err(self.expected("a name, a blank and a type"));
            }
            fields.push(Column::new(name, self.column_type(depth + 1)?))?;
            if self.takes(")") {
                return Ok(ColumnType::Struct(Arc::new(fields)));
            }
            if !self.takes(", ") {
                return Err(self.expected("\", \" or \")\""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_type_keeps_its_name() {
        for name in [
            "bigint",
            "double",
            "boolean",
            "varchar",
            "date",
            "timestamp",
            "json",
            "list(varchar)",
            "struct(plan varchar, seats list(struct(n bigint, at timestamp)), list json)",
        ] {
            let column_type: ColumnType = name.parse().expect(name);
            assert_eq!(column_type.to_string(), name);
            assert_eq!(serde_json::to_string(&column_type).expect("a name"), format!("\"{name}\""));
        }
    }

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
            ("struct(a bigint,b double)", 15),
            ("struct(a bigint, )", 17),
            ("struct(a  bigint)", 9),
        ] {
            match text.parse::<ColumnType>() {
                Err(TypeNameError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!("struct(1a bigint)".parse::<ColumnType>(), Err(TypeNameError::Fields(_))));
        assert!(matches!("struct(a bigint, A double)".parse::<ColumnType>(), Err(TypeNameError::Fields(_))));
        let nested = |depth: usize| format!("{}bigint{}", "list(".repeat(depth), ")".repeat(depth));
        assert!(nested(TYPE_DEPTH_MAX).parse::<ColumnType>().is_ok());
        assert_eq!(nested(100_000).parse::<ColumnType>(), Err(TypeNameError::Depth));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_it_takes_is_its_own_name(text in "[a-z_0-9(), ]{0,40}|\\PC{0,8}") {
            if let Ok(column_type) = text.parse::<ColumnType>() {
                prop_assert_eq!(column_type.to_string(), text);
            }
        }
    }
}
