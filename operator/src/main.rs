//! Flags and wiring of the operator.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use kube::Client;
use operator::{context::Context, controller, error::sentence, http, leader, metrics::Metrics, settings::Settings};
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
    /// The image of the runner; spec.execution.runnerImage of a run overrides it.
    #[arg(long, env = "EMBEDRUN_RUNNER_IMAGE")]
    runner_image: String,
    /// The image of runner pods with an accelerator [default: the image of --runner-image].
    #[arg(long, env = "EMBEDRUN_RUNNER_CUDA_IMAGE")]
    runner_cuda_image: Option<String>,
    /// The pull policy of the runner's images.
    #[arg(long, env = "EMBEDRUN_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: PullPolicy,
    /// A Secret, in the namespace of the pods, to pull the runner's images with; repeatable.
    #[arg(long = "image-pull-secret", env = "EMBEDRUN_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// The only namespace to watch [default: all namespaces].
    #[arg(long, env = "EMBEDRUN_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// The address of /healthz, /readyz and /metrics.
    #[arg(long, env = "EMBEDRUN_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    http_address: SocketAddr,
    /// The namespace of the Lease for the leader election; in a cluster the namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The name of the Lease for the leader election.
    #[arg(long, env = "EMBEDRUN_LEASE_NAME", default_value = "embedrun-operator")]
    lease_name: String,
    /// The identity of this process in the Lease and in events; in a cluster the name of the pod.
    #[arg(long, env = "POD_NAME", default_value = "embedrun-operator")]
    identity: String,
    /// The format of the log lines.
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
    match run_operator(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Reconciles until a signal stops the process or another operator takes the lease.
async fn run_operator(flags: Flags) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("cannot find the API server: run in a pod with a service account, or set KUBECONFIG")?;
    let metrics = Arc::new(Metrics::new().context("cannot register the metrics")?);
    let listener = TcpListener::bind(flags.http_address)
        .await
        .with_context(|| format!("cannot listen on {}", flags.http_address))?;
    let (ready, is_ready) = watch::channel(false);
    let mut stop = stop_signal()?;
    let server = tokio::spawn(http::serve(listener, metrics.clone(), is_ready, stopped(stop.clone())));

    let version = client.apiserver_version().await.context("the API server does not answer")?;
    tracing::info!(api_server = version.git_version, identity = flags.identity, "started");
    let mut leadership =
        leader::campaign(client.clone(), &flags.lease_namespace, &flags.lease_name, &flags.identity).await?;
    ready.send_replace(true);

    let elected = tokio::select! {
        elected = leadership.is_leader.wait_for(|is_leader| *is_leader) => elected.is_ok(),
        () = stopped(stop.clone()) => false,
    };
    if elected {
        tracing::info!("elected as leader");
        metrics.set_leader(true);
        let context = Arc::new(Context::new(client, flags.settings(), flags.identity.clone(), metrics.clone()));
        let mut is_leader = leadership.is_leader.clone();
        let stop = stop.clone();
        controller::run(context, flags.watch_namespace.as_deref(), async move {
            tokio::select! {
                _ = is_leader.wait_for(|is_leader| !*is_leader) => tracing::warn!("lost the lease, stopping"),
                () = stopped(stop) => tracing::info!("received a stop signal, stopping"),
            }
        })
        .await;
        metrics.set_leader(false);
    }
    let lost = elected && !*stop.borrow_and_update();
    leadership.resign().await;
    if lost {
        anyhow::bail!(
            "lost the Lease {}/{}: another operator is the leader now",
            flags.lease_namespace,
            flags.lease_name
        );
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

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}
