//! Flags and wiring of the operator.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use kube::Client;
use operator::{context::Context, controller, events, http, leader, metrics::Metrics, settings::Settings};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// Reconciles EmbeddingRuns into plan, embed and finalize Jobs.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// The image of the runner, unless a run names another.
    #[arg(long, env = "EMBEDRUN_RUNNER_IMAGE")]
    runner_image: String,
    /// The image of pods that hold an accelerator; that of --runner-image without it.
    #[arg(long, env = "EMBEDRUN_RUNNER_CUDA_IMAGE")]
    runner_cuda_image: Option<String>,
    /// When nodes pull the images.
    #[arg(long, env = "EMBEDRUN_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: PullPolicy,
    /// A Secret that nodes pull them with; repeatable.
    #[arg(long = "image-pull-secret", env = "EMBEDRUN_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// Watch this namespace only; all of them without it.
    #[arg(long, env = "EMBEDRUN_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "EMBEDRUN_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    http_address: SocketAddr,
    /// The namespace of the Lease; that of the pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The name of the Lease.
    #[arg(long, env = "EMBEDRUN_LEASE_NAME", default_value = "embedrun-operator")]
    lease_name: String,
    /// Who holds the Lease; the name of the pod.
    #[arg(long, env = "POD_NAME", default_value = "embedrun-operator")]
    identity: String,
    /// The form of the log lines.
    #[arg(long, env = "EMBEDRUN_LOG_FORMAT", default_value = "json")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    start_log(flags.log_format);
    match operate(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, but for those that the one before has told.
fn sentence(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    let mut sentence = told.clone();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
            told = cause;
        }
    }
    sentence
}

/// Works until it is told to stop.
async fn operate(flags: Flags) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("cannot find the API server (a pod knows it by its service account, other processes by KUBECONFIG)")?;
    let metrics = Arc::new(Metrics::new().context("cannot register the metrics")?);
    let listener = TcpListener::bind(flags.http_address)
        .await
        .with_context(|| format!("cannot listen on {}", flags.http_address))?;
    let (ready, is_ready) = watch::channel(false);
    let mut stop = stop_signal()?;
    let server = tokio::spawn(http::serve(listener, metrics.clone(), is_ready, ended(stop.clone())));

    let version = client.apiserver_version().await.context("the API server does not answer")?;
    tracing::info!(api_server = version.git_version, identity = flags.identity, "started");
    let mut leadership =
        leader::campaign(client.clone(), &flags.lease_namespace, &flags.lease_name, &flags.identity).await?;
    ready.send_replace(true);

    let elected = tokio::select! {
        elected = leadership.holds.wait_for(|holds| *holds) => elected.is_ok(),
        () = ended(stop.clone()) => false,
    };
    if elected {
        tracing::info!("elected");
        metrics.set_leader(true);
        let context = Arc::new(Context::new(
            client.clone(),
            flags.settings(),
            events::recorder(client, flags.identity.clone()),
            metrics.clone(),
        ));
        let mut holds = leadership.holds.clone();
        let mut told = stop.clone();
        controller::run(context, flags.watch_namespace.as_deref(), async move {
            tokio::select! {
                _ = holds.wait_for(|holds| !*holds) => tracing::warn!("the lease is lost"),
                _ = told.wait_for(|stop| *stop) => tracing::info!("told to stop"),
            }
        })
        .await;
        metrics.set_leader(false);
    }
    let lost = elected && !*stop.borrow_and_update();
    leadership.resign().await;
    if lost {
        anyhow::bail!("the lease is lost: another operator acts now");
    }
    server.await.context("the HTTP server panicked")?.context("the HTTP server failed")?;
    tracing::info!("stopped");
    Ok(())
}

impl Flags {
    fn settings(&self) -> Settings {
        let policy = self.image_pull_policy.to_possible_value().map(|value| value.get_name().to_owned());
        Settings {
            runner_image: self.runner_image.clone(),
            runner_cuda_image: self.runner_cuda_image.clone().filter(|image| !image.is_empty()),
            image_pull_policy: policy.unwrap_or_default(),
            image_pull_secrets: self.image_pull_secrets.iter().filter(|name| !name.is_empty()).cloned().collect(),
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("EMBEDRUN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}

/// Becomes true at the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn ended(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no such file").context("no token (no such file)").context("no credentials");
        assert_eq!(sentence(&error), "no credentials: no token (no such file)");
        let error = anyhow::anyhow!("refused").context("the API server does not answer");
        assert_eq!(sentence(&error), "the API server does not answer: refused");
    }
}
