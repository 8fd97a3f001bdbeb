//! Types as text, and back: the one way to write each.
//!
//! Owns: which type a text names. Does not own: the grammar, which declarations have too (`lakeingest_crds`), what a type
//! means (`types`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lakeingest_crds::TypeName;

use super::fields::{Fields, FieldsError};
use super::types::{Column, ColumnType};

/// A text is not the name of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeNameError {
    /// It is not written as one.
    #[error(transparent)]
    Text(#[from] lakeingest_crds::TypeNameError),
    /// The fields of a struct cannot stand beside each other.
    #[error("a struct cannot have these fields")]
    Fields(#[from] FieldsError),
}

const SCALARS: [(&str, ColumnType); 9] = [
    ("bigint", ColumnType::Bigint),
    ("double", ColumnType::Double),
    ("boolean", ColumnType::Boolean),
    ("varchar", ColumnType::Varchar),
    ("date", ColumnType::Date),
    ("timestamp", ColumnType::Timestamp),
    ("uuid", ColumnType::Uuid),
    ("binary", ColumnType::Binary),
    ("json", ColumnType::Json),
];

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(formatter, "decimal({precision},{scale})"),
            Self::List(element) => write!(formatter, "list({element})"),
            Self::Map(value) => write!(formatter, "map(varchar, {value})"),
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
            Self::Decimal { .. } => "decimal",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Struct(_) => "struct",
            _ => SCALARS.iter().find(|(_, scalar)| scalar == self).map_or("json", |(name, _)| name),
        }
    }
}

impl FromStr for ColumnType {
    type Err = TypeNameError;

    fn from_str(text: &str) -> Result<Self, TypeNameError> {
        Self::named(&text.parse()?)
    }
}

impl ColumnType {
    fn named(name: &TypeName) -> Result<Self, TypeNameError> {
        match name {
            TypeName::Scalar(name) => Ok(scalar(name)),
            TypeName::Decimal { precision, scale } => Ok(Self::Decimal { precision: *precision, scale: *scale }),
            TypeName::List(element) => Ok(Self::list_of(Self::named(element)?)),
            TypeName::Map(value) => Ok(Self::Map(Arc::new(Self::named(value)?))),
            TypeName::Struct(named) => {
                let mut fields = Fields::default();
                for (name, column_type) in named {
                    fields.push(Column::new(name, Self::named(column_type)?))?;
                }
                Ok(Self::Struct(Arc::new(fields)))
            }
        }
    }
}

fn scalar(name: &str) -> ColumnType {
    let scalar = SCALARS.iter().find(|(scalar, _)| *scalar == name);
    scalar.expect("the grammar has the names that are listed here").1.clone()
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
            "uuid",
            "binary",
            "decimal(38,38)",
            "list(varchar)",
            "map(varchar, list(map(varchar, decimal(18,4))))",
            "struct(plan varchar, seats list(struct(n bigint, at timestamp)), list json)",
        ] {
            let column_type: ColumnType = name.parse().expect(name);
            assert_eq!(column_type.to_string(), name);
            assert_eq!(serde_json::to_string(&column_type).expect("a name"), format!("\"{name}\""));
        }
    }

    #[test]
    fn the_grammar_and_the_types_have_the_same_names() {
        assert_eq!(SCALARS.map(|(name, _)| name), lakeingest_crds::type_name::SCALARS);
    }

    #[test]
    fn fields_that_cannot_stand_beside_each_other_are_no_struct() {
        for text in ["struct(1a bigint)", "struct(a bigint, A double)", "list(struct(__duckdb_field_id json))"] {
            assert!(matches!(text.parse::<ColumnType>(), Err(TypeNameError::Fields(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_it_takes_has_its_name_but_for_blanks(text in "[a-z_0-9(), ]{0,40}|\\PC{0,8}") {
            if let Ok(column_type) = text.parse::<ColumnType>() {
                let name = column_type.to_string();
                prop_assert_eq!(name.parse::<ColumnType>(), Ok(column_type));
                prop_assert_eq!(name.replace(' ', ""), text.replace(' ', ""));
            }
        }
    }
}
