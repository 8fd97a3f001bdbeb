//! Field ids: what a column, and everything inside of it, is called in the files of its table for ever.
//!
//! Owns: which ids there are, that none is given twice. Does not own: names and types.

use serde::{Deserialize, Serialize};

use super::types::{Column, ColumnType};

/// Field ids of the partition's columns, the same in every table.
pub const YEAR_FIELD_ID: i32 = 1;
/// See [`YEAR_FIELD_ID`].
pub const MONTH_FIELD_ID: i32 = 2;
/// See [`YEAR_FIELD_ID`].
pub const DAY_FIELD_ID: i32 = 3;

/// Field id of the first column of a table's own. Ids are given in order, and never twice.
const FIRST_FIELD_ID: i32 = 4;

/// The type of the keys of maps.
pub static MAP_KEY: ColumnType = ColumnType::Varchar;

/// The id of a column or field, with those inside of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldId {
    /// Its own.
    #[serde(rename = "fieldId")]
    pub id: i32,
    /// Those of a struct's fields in order, that of a list's element, or those of a map's key and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<FieldId>,
}

impl FieldId {
    /// The greatest one.
    fn last(&self) -> i32 {
        last_of(&self.inside).max(self.id)
    }

    /// Whether it has as many ids inside as the type has places for them.
    fn is_of(&self, column_type: &ColumnType) -> bool {
        match column_type {
            ColumnType::Struct(fields) => are_of(&self.inside, fields.columns()),
            ColumnType::List(element) => matches!(self.inside.as_slice(), [inside] if inside.is_of(element)),
            ColumnType::Map(value) => {
                matches!(self.inside.as_slice(), [key, inside] if key.is_of(&MAP_KEY) && inside.is_of(value))
            }
            _ => self.inside.is_empty(),
        }
    }
}

/// Whether these are ids of these columns, one for each and for everything inside.
pub(super) fn are_of(field_ids: &[FieldId], columns: &[Column]) -> bool {
    let mut pairs = field_ids.iter().zip(columns);
    field_ids.len() == columns.len() && pairs.all(|(id, column)| id.is_of(&column.column_type))
}

/// These ids, of columns that have grown since, with new ones for what has none.
pub(super) fn grown(field_ids: &[FieldId], columns: &[Column]) -> Vec<FieldId> {
    let mut next = last_of(field_ids).max(FIRST_FIELD_ID - 1) + 1;
    let types: Vec<&ColumnType> = columns.iter().map(|column| &column.column_type).collect();
    grown_from(field_ids, &types, &mut next)
}

fn last_of(field_ids: &[FieldId]) -> i32 {
    field_ids.iter().map(FieldId::last).max().unwrap_or(0)
}

fn grown_from(field_ids: &[FieldId], types: &[&ColumnType], next: &mut i32) -> Vec<FieldId> {
    let mut known = field_ids.iter();
    let with_id = |column_type: &&ColumnType| {
        let known = known.next();
        let id = known.map_or_else(|| std::mem::replace(next, *next + 1), |known| known.id);
        let types: Vec<&ColumnType> = match column_type {
            ColumnType::Struct(fields) => fields.columns().iter().map(|field| &field.column_type).collect(),
            ColumnType::List(element) => vec![element],
            ColumnType::Map(value) => vec![&MAP_KEY, value],
            _ => Vec::new(),
        };
        let inside = known.map_or(&[][..], |known| &known.inside);
        FieldId { id, inside: grown_from(inside, &types, next) }
    };
    types.iter().map(with_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, column_type: &str) -> Column {
        Column::new(name, column_type.parse().expect("a type"))
    }

    /// Ids as text: `4[5,6[7]]`.
    fn shown(field_ids: &[FieldId]) -> String {
        let one = |FieldId { id, inside }: &FieldId| match inside.as_slice() {
            [] => id.to_string(),
            inside => format!("{id}[{}]", shown(inside)),
        };
        field_ids.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Invariant I9: an id stays what it is, however a table grows.
    #[test]
    fn i9_what_grows_keeps_its_ids_and_what_is_new_gets_the_next() {
        let first = [column("a", "bigint"), column("s", "struct(x json, l list(struct(p date)))")];
        let ids = grown(&[], &first);
        assert_eq!(shown(&ids), "4,5[6,7[8[9]]]");
        let second = [
            first[0].clone(),
            column("s", "struct(x json, l list(struct(p date, q list(json))), y json)"),
            column("z", "map(varchar, list(json))"),
        ];
        let more = grown(&ids, &second);
        assert_eq!(shown(&more), "4,5[6,7[8[9,10[11]]],12],13[14,15[16]]");
        assert_eq!(shown(&grown(&more, &second)), shown(&more));
        assert!(are_of(&ids, &first) && are_of(&more, &second));
        assert!(!are_of(&ids, &second) && !are_of(&more, &first) && !are_of(&ids[..1], &first));
    }

    #[test]
    fn flat_ids_are_written_as_before_there_were_others() {
        let ids = grown(&[], &[column("a", "bigint"), column("l", "list(json)")]);
        let text = serde_json::to_string(&ids).expect("plain data");
        assert_eq!(text, r#"[{"fieldId":4},{"fieldId":5,"inside":[{"fieldId":6}]}]"#);
        assert_eq!(serde_json::from_str::<Vec<FieldId>>(&text).expect("its own text"), ids);
    }
}
