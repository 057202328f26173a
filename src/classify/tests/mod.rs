//! The room as its callers see it.

pub(super) mod fixture;
mod loading;
mod real_model;
mod scheduling;
