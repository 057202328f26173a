//! The commands.

mod demo_upstream;
