//! Log lines: one event a line, to standard error.

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people: time, level, room, message.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Starts logging to standard error. `RUST_LOG` overrides `level`; ONNX Runtime's own chatter is kept at warnings.
///
/// A second call does nothing: the first one's settings stay.
pub fn init(format: Format, level: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},ort=warn,ort::logging=warn")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
