//! Rows as Parquet columns, and back.
//!
//! The columns are those of the JSON lines, fixed once for all files, so that any set of files loads as one table. A
//! message has columns for what messages usually have; whatever of it does not fit these (a list of content parts, a
//! member of a provider's own, a `null` that was written out) is in `more`, as JSON, and goes back to its place when the
//! row is read. The text of content parts also stands in `content`, for those who want no more than that.
//!
//! Values are shredded as Dremel does it (Melnik et al. 2010, section 4): each column has, beside its values, how much of
//! its path is there (definition level) and which list begins anew (repetition level).

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, Row as Record};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use crate::pairs::mistakes::text;

/// What a column holds. Each may be missing.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Number,
    Whole,
    Flag,
    Record(&'static [(&'static str, Kind)]),
    List(&'static Kind),
}

use Kind::{Flag, List, Number, Text, Whole};

/// The member of a message that holds, as JSON, what has no column.
const MORE: &str = "more";

const FUNCTION: Kind = Kind::Record(&[("name", Text), ("arguments", Text)]);
const TOOL_CALL: Kind = Kind::Record(&[("id", Text), ("type", Text), ("function", FUNCTION)]);
const MESSAGE: Kind = Kind::Record(MESSAGE_MEMBERS);
const MESSAGE_MEMBERS: &[(&str, Kind)] = &[
    ("role", Text),
    ("content", Text),
    ("name", Text),
    ("tool_calls", List(&TOOL_CALL)),
    ("tool_call_id", Text),
    (MORE, Text),
];
const GUARD: Kind = Kind::Record(&[("id", Text), ("stage", Text), ("score", Number), ("threshold", Number)]);
const META: Kind = Kind::Record(&[
    ("pair_id", Text),
    ("request_id", Text),
    ("created_at", Text),
    ("source", Text),
    ("principle_id", Text),
    ("critique", Text),
    ("policy", Text),
    ("policy_rev", Text),
    ("constitution_sha256", Text),
    ("model", Text),
    ("provider", Text),
    ("guards", List(&GUARD)),
    ("sample_rate", Number),
    ("redaction", Text),
    ("consent", Text),
    ("tenant", Text),
    ("user", Text),
    ("signal", Text),
    ("event", Text),
    ("rating", Whole),
    ("comment", Text),
    ("judged", Number),
    ("lean", Number),
    ("judge", Text),
    ("second", Text),
    ("second_model", Text),
    ("split", Text),
    ("tags", List(&Text)),
]);
const PAIR: &[(&str, Kind)] = &[
    ("prompt", List(&MESSAGE)),
    ("chosen", List(&MESSAGE)),
    ("rejected", List(&MESSAGE)),
    ("score_chosen", Number),
    ("score_rejected", Number),
    ("margin", Number),
    ("tools", Text),
    ("meta", META),
];
const UNPAIRED: &[(&str, Kind)] = &[
    ("prompt", List(&MESSAGE)),
    ("completion", List(&MESSAGE)),
    ("label", Flag),
    ("score", Number),
    ("tools", Text),
    ("meta", META),
];
/// Columns that hold messages.
const MESSAGES: [&str; 4] = ["prompt", "chosen", "rejected", "completion"];

/// One column's values with their levels.
#[derive(Debug)]
struct Column {
    values: Values,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

#[derive(Debug)]
enum Values {
    Texts(Vec<ByteArray>),
    Numbers(Vec<f64>),
    Wholes(Vec<i64>),
    Flags(Vec<bool>),
}

/// Rows of one kind on their way into columns.
#[derive(Debug)]
pub(in crate::pairs) struct Columns {
    table: &'static [(&'static str, Kind)],
    leaves: Vec<Column>,
    rows: u64,
}

impl Columns {
    /// No rows yet. `kind` is `pairs` or `unpaired`.
    pub(in crate::pairs) fn new(kind: &str) -> Self {
        let table = if kind == "pairs" { PAIR } else { UNPAIRED };
        let mut columns = Vec::new();
        Kind::Record(table).leaves(&mut |kind| {
            let values = match kind {
                Number => Values::Numbers(Vec::new()),
                Whole => Values::Wholes(Vec::new()),
                Flag => Values::Flags(Vec::new()),
                _ => Values::Texts(Vec::new()),
            };
            columns.push(Column { values, definitions: Vec::new(), repetitions: Vec::new() });
        });
        Self { table, leaves: columns, rows: 0 }
    }

    /// The file's schema.
    pub(in crate::pairs) fn schema(&self) -> Result<TypePtr> {
        let fields = self.table.iter().map(|(name, kind)| kind.schema(name)).collect::<Result<_>>()?;
        Type::group_type_builder("row").with_fields(fields).build().map(Arc::new)
    }

    pub(in crate::pairs) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a row in the form that its JSON line has.
    pub(in crate::pairs) fn add(&mut self, mut row: Value) {
        for messages in MESSAGES.iter().filter_map(|name| row[*name].as_array_mut().map(|_| *name)).collect::<Vec<_>>()
        {
            for message in row[messages].as_array_mut().into_iter().flatten() {
                fit_message(message);
            }
        }
        let mut at = 0;
        for (name, kind) in self.table {
            self.put(*kind, &row[*name], 0, 0, 0, &mut at);
        }
        self.rows += 1;
    }

    /// `defined` is how much of the path is there, `repeats` which list begins anew with this value, `lists` how many
    /// lists are around it, `at` the first of the columns below.
    fn put(&mut self, kind: Kind, value: &Value, defined: i16, repeats: i16, lists: i16, at: &mut usize) {
        match (kind, value) {
            (Kind::Record(members), Value::Object(object)) => {
                for (name, member) in members {
                    let value = object.get(*name).unwrap_or(&Value::Null);
                    self.put(*member, value, defined + 1, repeats, lists, at);
                }
            }
            (List(item), Value::Array(items)) if !items.is_empty() => {
                let first = *at;
                for (index, value) in items.iter().enumerate() {
                    *at = first;
                    let repeats = if index == 0 { repeats } else { lists + 1 };
                    self.put(*item, value, defined + 2, repeats, lists + 1, at);
                }
            }
            // A list that is there, and empty.
            (List(item), Value::Array(_)) => self.nothing(*item, defined + 1, repeats, at),
            (Kind::Record(_) | List(_), _) => self.nothing(kind, defined, repeats, at),
            _ => {
                let column = &mut self.leaves[*at];
                let there = column.values.push(value);
                column.definitions.push(defined + i16::from(there));
                column.repetitions.push(repeats);
                *at += 1;
            }
        }
    }

    fn nothing(&mut self, kind: Kind, defined: i16, repeats: i16, at: &mut usize) {
        kind.leaves(&mut |_| {
            self.leaves[*at].definitions.push(defined);
            self.leaves[*at].repetitions.push(repeats);
            *at += 1;
        });
    }

    /// Writes what was added as a group of rows, and is empty again.
    pub(in crate::pairs) fn flush<W: Write + Send>(&mut self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = file.next_row_group()?;
        for column in &mut self.leaves {
            let Some(mut writer) = group.next_column()? else { break };
            let (definitions, repetitions) = (&column.definitions[..], &column.repetitions[..]);
            match (writer.untyped(), &column.values) {
                (ColumnWriter::ByteArrayColumnWriter(writer), Values::Texts(texts)) => {
                    writer.write_batch(texts, Some(definitions), Some(repetitions))?;
                }
                (ColumnWriter::DoubleColumnWriter(writer), Values::Numbers(numbers)) => {
                    writer.write_batch(numbers, Some(definitions), Some(repetitions))?;
                }
                (ColumnWriter::Int64ColumnWriter(writer), Values::Wholes(wholes)) => {
                    writer.write_batch(wholes, Some(definitions), Some(repetitions))?;
                }
                (ColumnWriter::BoolColumnWriter(writer), Values::Flags(flags)) => {
                    writer.write_batch(flags, Some(definitions), Some(repetitions))?;
                }
                _ => return Err(parquet::errors::ParquetError::General("columns and schema differ".to_owned())),
            }
            writer.close()?;
            column.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Column {
    fn clear(&mut self) {
        match &mut self.values {
            Values::Texts(texts) => texts.clear(),
            Values::Numbers(numbers) => numbers.clear(),
            Values::Wholes(wholes) => wholes.clear(),
            Values::Flags(flags) => flags.clear(),
        }
        self.definitions.clear();
        self.repetitions.clear();
    }
}

impl Values {
    /// Takes a value of the column's kind; whether it was one.
    fn push(&mut self, value: &Value) -> bool {
        match (self, value) {
            (Self::Texts(texts), Value::String(text)) => texts.push(ByteArray::from(text.as_str())),
            (Self::Numbers(numbers), value) if value.is_number() => numbers.extend(value.as_f64()),
            (Self::Wholes(wholes), value) if value.is_i64() => wholes.extend(value.as_i64()),
            (Self::Flags(flags), Value::Bool(flag)) => flags.push(*flag),
            _ => return false,
        }
        true
    }
}

impl Kind {
    fn leaves(self, each: &mut impl FnMut(Kind)) {
        match self {
            Self::Record(members) => members.iter().for_each(|(_, member)| member.leaves(each)),
            Self::List(item) => item.leaves(each),
            leaf => each(leaf),
        }
    }

    fn schema(self, name: &str) -> Result<TypePtr> {
        let group = |fields| Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL).with_fields(fields);
        let leaf = |physical| Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        let built = match self {
            Self::Text => leaf(Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String)).build(),
            Self::Number => leaf(Physical::DOUBLE).build(),
            Self::Whole => leaf(Physical::INT64).build(),
            Self::Flag => leaf(Physical::BOOLEAN).build(),
            Self::Record(members) => {
                let fields = members.iter().map(|(name, member)| member.schema(name)).collect::<Result<_>>()?;
                group(fields).build()
            }
            Self::List(item) => {
                let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
                let list = list.with_fields(vec![item.schema("element")?]).build()?;
                let outer = group(vec![Arc::new(list)]).with_logical_type(Some(LogicalType::List));
                outer.with_converted_type(ConvertedType::LIST).build()
            }
        };
        built.map(Arc::new)
    }

    /// Whether the columns give this very value back.
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::String(_)) | (Self::Flag, Value::Bool(_)) | (Self::Number, Value::Number(_)) => true,
            (Self::List(item), Value::Array(items)) => items.iter().all(|value| item.fits(value)),
            (Self::Record(members), Value::Object(object)) => object
                .iter()
                .all(|(name, value)| members.iter().any(|(column, kind)| column == name && kind.fits(value))),
            _ => false,
        }
    }
}

/// Leaves a message what has a column, and puts the rest into `more`.
fn fit_message(message: &mut Value) {
    let words = text(message);
    let Some(members) = message.as_object_mut() else { return };
    let column = |name: &str| MESSAGE_MEMBERS.iter().find(|(column, _)| *column == name && name != MORE);
    let (fitting, more): (Map<_, _>, Map<_, _>) = std::mem::take(members)
        .into_iter()
        .partition(|(name, value)| column(name).is_some_and(|(_, kind)| kind.fits(value)));
    *members = fitting;
    if more.get("content").is_some_and(Value::is_array) {
        members.insert("content".to_owned(), Value::String(words));
    }
    if !more.is_empty() {
        members.insert(MORE.to_owned(), Value::String(Value::Object(more).to_string()));
    }
}

/// A row that was read, in the form that its JSON line had.
pub(in crate::pairs) fn line(record: &Record) -> Value {
    let mut row = object(record, false);
    for name in MESSAGES {
        for message in row.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(members) = message.as_object_mut() else { continue };
            members.retain(|_, value| !value.is_null());
            let more = members.remove(MORE).and_then(|more| serde_json::from_str(more.as_str()?).ok());
            if let Some(Value::Object(more)) = more {
                members.extend(more);
            }
        }
    }
    Value::Object(row)
}

fn object(record: &Record, sparse: bool) -> Map<String, Value> {
    let members =
        record.get_column_iter().map(|(name, field)| (name.clone(), value(field, sparse || name == "tool_calls")));
    members.filter(|(_, value)| !(sparse && value.is_null())).collect()
}

/// `sparse` leaves out what is null.
fn value(field: &Field, sparse: bool) -> Value {
    match field {
        Field::Bool(flag) => Value::Bool(*flag),
        Field::Double(number) => Value::from(*number),
        Field::Long(number) => Value::from(*number),
        Field::Str(text) => Value::String(text.clone()),
        Field::Group(record) => Value::Object(object(record, sparse)),
        Field::ListInternal(list) => list.elements().iter().map(|field| value(field, sparse)).collect(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
