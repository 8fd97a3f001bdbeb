//! Tables that the configuration declares.
//!
//! Owns: what a declaration says in the sidecar's own types. Does not own: the text of types, the checks of a configuration
//! (`lakeingest_crds`), what becomes of a request (`registry`).

use std::collections::HashMap;
use std::sync::Arc;

use lakeingest_crds::{OnUndeclaredTable, OnUnknownColumn, SidecarConfig, TableDeclaration};

use super::schema::{Constraints, Error, Schema};
use super::transform::Transform;
use super::type_name::TypeNameError;
use super::types::{Column, ColumnType};

/// A declaration that is none.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    /// The type of a column is none.
    #[error("failed to read the type of column {column} of table {table}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Why.
        #[source]
        source: TypeNameError,
    },
    /// The transform is none.
    #[error("failed to use the transform of table {table}: tables[{table}].transform")]
    Transform {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// The columns cannot stand beside each other.
    #[error("failed to declare table {table}")]
    Columns {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: Error,
    },
}

/// Reads a transform over records of a schema: what it computes, or why it is none.
pub(super) type ReadTransform<'a> = dyn Fn(&str, &Schema) -> anyhow::Result<Transform> + 'a;

/// A table that is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Its columns, and what it asks of its records.
    pub schema: Schema,
    /// What becomes of a record with a field that there is no column for.
    pub on_unknown_column: OnUnknownColumn,
    /// The columns by which the rows of its files are ordered.
    pub order_by: Vec<String>,
}

/// Every table that is declared, and what becomes of the others.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    tables: HashMap<String, Arc<Declaration>>,
    on_undeclared_table: OnUndeclaredTable,
}

impl Declaration {
    fn of(declared: &TableDeclaration, read_transform: &ReadTransform<'_>) -> Result<Self, DeclarationError> {
        let TableDeclaration { name: table, columns, partition, order_by, transform, on_unknown_column } = declared;
        let mut constraints = Constraints {
            closed: *on_unknown_column != OnUnknownColumn::Add,
            partition_by: partition.as_ref().map(|partition| partition.by.clone()),
            ..Constraints::default()
        };
        let mut found = Vec::with_capacity(columns.len());
        for column in columns {
            let column_type: ColumnType = column.column_type.parse().map_err(|source| DeclarationError::Type {
                table: table.clone(),
                column: column.name.clone(),
                source,
            })?;
            if !column.nullable {
                constraints.required.insert(column.name.clone());
            }
            found.push(Column::new(&column.name, column_type));
        }
        let schema = Schema::new(found);
        let schema = schema.map_err(|source| DeclarationError::Columns { table: table.clone(), source })?;
        if let Some(select) = transform {
            let transform = read_transform(select, &schema);
            let transform = transform.map_err(|source| DeclarationError::Transform { table: table.clone(), source })?;
            constraints.transform = Some(Arc::new(transform));
        }
        let schema = schema.constrained(&constraints);
        Ok(Self { schema, on_unknown_column: *on_unknown_column, order_by: order_by.clone() })
    }

    /// The columns that its table has by it, in their order, with the types of those that were seen before: records that were
    /// accepted with a type keep it. What was seen besides comes behind them. Names that differ in their case alone are one.
    pub fn columns_beside(&self, seen: &[Column]) -> Vec<Column> {
        let by_name: HashMap<String, &Column> =
            seen.iter().map(|seen| (seen.name.to_ascii_lowercase(), seen)).collect();
        let as_seen = |column: &Column| (*by_name.get(&column.name.to_ascii_lowercase()).unwrap_or(&column)).clone();
        // Once more as they are declared: a struct may have fields that were not seen.
        self.columns().iter().map(as_seen).chain(seen.iter().cloned()).chain(self.columns().iter().cloned()).collect()
    }

    /// The columns that its table has by it: what is declared, or what is computed of that.
    pub fn columns(&self) -> &[Column] {
        match &self.schema.constraints().transform {
            Some(transform) => &transform.columns,
            None => self.schema.columns(),
        }
    }

    /// Whether its table has other columns than its records.
    pub fn is_transformed(&self) -> bool {
        self.schema.constraints().transform.is_some()
    }

    /// The declared columns that a table cannot have as declared: it has another type, a name in another case, or no room.
    pub fn conflicts(&self, table: &Schema) -> Vec<String> {
        let grown = table.merged(self.columns());
        let conflict = |column: &Column| {
            let Column { name, column_type } = column;
            match grown.column_of_any_case(name) {
                Some(present) if present.name != *name => Some(format!("{name} is there as {}", present.name)),
                Some(present) if !present.column_type.covers(column_type) => {
                    Some(format!("{name} is declared {column_type} and is {}", present.column_type))
                }
                Some(_) => None,
                None => Some(format!("the table is full without {name}")),
            }
        };
        self.columns().iter().filter_map(conflict).collect()
    }
}

impl Declarations {
    /// What a configuration declares.
    ///
    /// # Errors
    /// It has violations, and should not have come here; or a transform is none.
    pub fn of(config: &SidecarConfig, read_transform: &ReadTransform<'_>) -> Result<Self, DeclarationError> {
        let tables = config.tables.iter();
        let tables = tables.map(|table| Ok((table.name.clone(), Arc::new(Declaration::of(table, read_transform)?))));
        Ok(Self { tables: tables.collect::<Result<_, _>>()?, on_undeclared_table: config.on_undeclared_table })
    }

    /// The declaration of a table.
    pub fn of_table(&self, table: &str) -> Option<&Arc<Declaration>> {
        self.tables.get(table)
    }

    /// Whether records of a table are taken.
    pub fn takes(&self, table: &str) -> bool {
        match self.on_undeclared_table {
            OnUndeclaredTable::Accept => true,
            OnUndeclaredTable::Reject => self.tables.contains_key(table),
        }
    }

    /// The names of the declared tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(yaml: &str) -> Declarations {
        let config: SidecarConfig = serde_yaml::from_str(yaml).expect("the test's YAML is well-formed");
        assert_eq!(config.violations(), []);
        Declarations::of(&config, &|_, _| anyhow::bail!("there is none")).expect("it has no violation")
    }

    const ORDERS: &str = "
tables:
- name: orders
  columns: [{name: id, type: bigint, nullable: false}, {name: who, type: 'struct(name varchar,  seats list(bigint))'}]
  onUnknownColumn: quarantine
onUndeclaredTable: reject";

    #[test]
    fn a_declaration_is_a_schema_with_what_it_asks_for() {
        let declarations = declared(ORDERS);
        let orders = declarations.of_table("orders").expect("it is declared");
        let json = r#"{"columns":[["id","bigint"],["who","struct(name varchar, seats list(bigint))"]],"required":["id"],"closed":true}"#;
        assert_eq!(String::from_utf8_lossy(&orders.schema.canonical_json()), json);
        assert_eq!(Schema::from_canonical_json(json.as_bytes()).expect("it is canonical"), orders.schema);
        assert!(declarations.takes("orders") && !declarations.takes("clicks"));
        assert!(Declarations::default().takes("clicks"));
    }

    #[test]
    fn a_table_that_has_a_column_otherwise_is_in_conflict() {
        let declarations = declared(ORDERS);
        let orders = declarations.of_table("orders").expect("it is declared");
        let of = |columns: &[(&str, &str)]| {
            let columns = columns.iter().map(|(name, text)| Column::new(*name, text.parse().expect("a type")));
            orders.conflicts(&Schema::new(columns.collect()).expect("they are legal"))
        };
        assert_eq!(of(&[]), Vec::<String>::new());
        assert_eq!(
            of(&[("id", "bigint"), ("who", "struct(seats list(bigint), name varchar, more json)")]),
            Vec::<String>::new()
        );
        assert_eq!(of(&[("who", "struct(name varchar)")]), Vec::<String>::new(), "it can grow");
        let found = of(&[("ID", "bigint"), ("who", "struct(name bigint)")]);
        assert_eq!(found[0], "id is there as ID");
        assert!(found[1].ends_with("and is struct(name bigint, seats list(bigint))"), "{found:?}");
        let names: Vec<String> = (0..1_000).map(|name| format!("c{name}")).collect();
        let full: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "json")).collect();
        assert_eq!(of(&full), ["the table is full without id", "the table is full without who"]);
    }
}
