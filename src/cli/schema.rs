//! `wardline schema`

use super::Failed;
use super::output::print;
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
    print(&text(of))
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

    /// Editors read the committed files. `WARDLINE_GOLDEN=write cargo test schema` writes them anew.
    #[test]
    fn the_committed_schemas_are_those_of_the_code() {
        for (kind, name) in [(Kind::Policy, "policy.json"), (Kind::Config, "config.json")] {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema").join(name);
            if std::env::var_os("WARDLINE_GOLDEN").is_some_and(|word| word == "write") {
                std::fs::write(&file, text(kind)).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text(kind), "{name}");
        }
    }
}
