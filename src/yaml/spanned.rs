//! A value and where it is written.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_saphyr::Location;

/// A value and where it is written; in a JSON Schema, the value alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Spanned<T>(serde_saphyr::Spanned<T>);

impl<T> Spanned<T> {
    /// A value that stands in no file.
    pub(crate) fn unwritten(value: T) -> Self {
        Self(serde_saphyr::Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN))
    }

    /// The value alone.
    pub(crate) fn into_value(self) -> T {
        self.0.value
    }
}

impl<T> Deref for Spanned<T> {
    type Target = serde_saphyr::Spanned<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
