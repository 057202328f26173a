//! `wardline serve`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Failed;
use super::assemble::{Parts, assemble, configured, environment};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::server::Server;
use crate::telemetry;

/// How long the rows of the last answers, which are still being scored, are waited for.
const ROWS_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(path: &Path) -> Result<(), Failed> {
    let config = configured(path)?;
    telemetry::init_logs(config.log.format, &config.log.level);
    let runtime = runtime()?;
    let parts = assemble(&config, environment, runtime.handle())?;
    runtime.block_on(serve(config, parts, |_server| {}))
}

/// The async runtime. Inference has threads of its own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Failed::Ran(format!("the async runtime could not be started: {error}")))
}

/// Serves until a signal says stop; then drains. `opened` is told once both sockets are open.
pub(super) async fn serve(config: Config, parts: Parts, opened: impl FnOnce(&Server)) -> Result<(), Failed> {
    let broken = |error: std::io::Error| Failed::Ran(format!("signals cannot be awaited: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(broken)?;
    let bound = Server::bind(config.server.clone()).await;
    let server = bound.map_err(|error| Failed::Told(config.complaint(&error.to_string())))?;
    let Parts { gateway, watch, spool, sinks } = parts;
    let shipping = sinks.start().map_err(|error| Failed::Ran(format!("a sink could not be started: {error}")))?;
    announce(&server, &gateway);
    opened(&server);
    let reload = Arc::clone(&gateway.policies);
    let on_hangup = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let store = Arc::clone(&reload);
            // Reading files and compiling patterns is no work for the async runtime's threads.
            let _outcome = tokio::task::spawn_blocking(move || store.reload()).await;
        }
    });
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: running requests may finish");
    };
    let whole = server.run(gateway, stop).await;
    on_hangup.abort();
    watch.stop();
    if let Some(spool) = spool {
        let patience = tokio::time::Instant::now() + ROWS_PATIENCE;
        while spool.expected() > 0 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        spool.close();
    }
    shipping.stop();
    if whole {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err(Failed::Ran("the drain timeout passed with requests still running; they were cut off".to_owned()))
    }
}

fn announce(server: &Server, gateway: &Gateway) {
    let snapshot = gateway.policies.snapshot();
    let device = snapshot.armed.serving().next().map_or("none", |(.., device)| device);
    tracing::info!(
        listen = %server.data_address(),
        admin = %server.admin_address(),
        policy = snapshot.policy.name,
        revision = snapshot.policy.revision,
        classifier = device,
        "serving"
    );
}
