//! The room as its callers see it.
