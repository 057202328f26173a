//! The guards without a gateway, for commands that only score.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failed;
use super::assemble::configured;
use crate::classify::{self, Cascade, Classifier};
use crate::config::Config;
use crate::telemetry::{self, Format, Metrics};

/// Which model.
#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    /// The process configuration whose classifier is used [default: wardline.yaml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The model's folder, in place of the configuration's.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Whether the cheap first stage clears texts, in place of what the configuration says.
    #[arg(long, value_name = "off|on", value_parser = cascade)]
    cascade: Option<Cascade>,
}

fn cascade(written: &str) -> Result<Cascade, &'static str> {
    match written {
        "off" => Ok(Cascade::Off),
        "on" => Ok(Cascade::On),
        _ => Err("expected off or on"),
    }
}

/// A model that is ready to score.
pub(super) struct Loaded {
    pub(super) classifier: Classifier,
    /// Texts that the classifier takes at a time.
    pub(super) places: usize,
}

/// Nobody else asks this classifier, so that it can take enough to keep many workers, or a GPU, busy.
pub(super) const PLACES: usize = 4096;

/// Lets every classifier of a configuration take so many texts at a time.
pub(super) fn roomy(config: &mut Config) {
    let local = config.classifier.iter_mut().map(|classifier| &mut classifier.max_concurrent_requests);
    let remote = config.classifiers.values_mut().map(|remote| &mut remote.max_concurrent_requests);
    local.chain(remote).for_each(|places| *places = (*places).max(PLACES));
}

impl ModelArguments {
    /// Loads, verifies and self-tests the model. Every failure names what to mend.
    pub(super) fn load(&self) -> Result<Loaded, Failed> {
        telemetry::init_logs(Format::Text, "warn");
        let mut config = self.classifier()?;
        if let Some(dir) = &self.model {
            config.dir.clone_from(dir);
        }
        config.cascade = self.cascade.unwrap_or(config.cascade);
        config.max_concurrent_requests = config.max_concurrent_requests.max(PLACES);
        let metrics = Metrics::new().map_err(|error| Failed::Ran(error.to_string()))?;
        let classifier = Classifier::load(&config, &metrics).map_err(|error| Failed::Told(error.to_string()))?;
        Ok(Loaded { classifier, places: config.max_concurrent_requests })
    }

    fn classifier(&self) -> Result<classify::Config, Failed> {
        let usual = Path::new("wardline.yaml");
        let Some(path) = self.config.as_deref().or_else(|| usual.exists().then_some(usual)) else {
            return Ok(classify::Config::default());
        };
        let config = configured(path)?;
        match config.classifier {
            Some(classifier) => Ok(classifier),
            None if self.model.is_some() => Ok(classify::Config::default()),
            None => Err(Failed::Told(format!("{}: no `classifier`; add one, or say --model DIR", path.display()))),
        }
    }
}

impl Loaded {
    /// The model's name, revision and device.
    pub(super) fn identity(&self) -> [String; 3] {
        let model = &self.classifier;
        [model.name().to_owned(), model.revision().to_owned(), model.device().to_owned()]
    }
}

/// A score as a number that prints as the model's own precision does: 0.9469, not 0.9469000101089478.
pub(super) fn decimal(score: f32) -> f64 {
    score.to_string().parse().unwrap_or_else(|_| f64::from(score))
}
