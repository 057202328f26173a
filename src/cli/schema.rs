//! `wardline schema`

use std::io::Write;

use super::Failed;
use crate::{config, policy};

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Policy files.
    Policy,
    /// The process configuration.
    Config,
}

pub(super) fn run(of: Kind) -> Result<(), Failed> {
    std::io::stdout().write_all(text(of).as_bytes()).map_err(|error| Failed::Ran(error.to_string()))
}

fn text(of: Kind) -> String {
    let schema = match of {
        Kind::Policy => policy::json_schema(),
        Kind::Config => config::json_schema(),
    };
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Editors read the committed files. `wardline schema policy > policies/schema/policy.json` makes them anew.
    #[test]
    fn the_committed_schemas_are_those_of_the_code() {
        assert_eq!(text(Kind::Policy), include_str!("../../policies/schema/policy.json"));
        assert_eq!(text(Kind::Config), include_str!("../../policies/schema/config.json"));
    }
}
