//! A cluster to work with: the real control plane and a local kubelet, until Ctrl-C.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use harness::{Cluster, ClusterOptions, Image, NodeOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Start a control plane and a node whose pods are processes of this machine.
#[derive(Parser)]
struct Options {
    /// A directory that keeps the files of the cluster: the kubeconfig, the logs and etcd's data [default: a
    /// temporary directory, deleted with the cluster]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// An image NAME. If PATH is a program of this machine, containers run it at CONTAINER_PATH. If PATH is a folder,
    /// it is the root of the containers, which run its program CONTAINER_PATH
    #[arg(long = "image", value_name = "NAME=PATH:CONTAINER_PATH", value_parser = parse_image)]
    images: Vec<(String, Image)>,
    /// The number of GPUs that the node advertises
    #[arg(long, default_value_t = 8)]
    gpus: u32,
}

fn parse_image(text: &str) -> Result<(String, Image)> {
    let (name, files) = text.split_once('=').context("expected NAME=PATH:CONTAINER_PATH, '=' is missing")?;
    let (path, container) = files.split_once(':').context("expected NAME=PATH:CONTAINER_PATH, ':' is missing")?;
    let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {path}"))?;
    let image = if path.is_dir() { Image::of_root(path, container) } else { Image::of_binary(path, container) };
    Ok((name.to_owned(), image))
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            // The client logs every request to a server that is still starting as an error.
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off")),
        )
        .init();
    let options = Options::parse();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let start = Cluster::start(ClusterOptions {
        nodes: vec![NodeOptions { gpus: options.gpus, ..NodeOptions::default() }],
        images: options.images,
        folder: options.dir,
    });
    let cluster = tokio::select! {
        cluster = start => cluster?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("{}", cluster.kubeconfig().display());
    eprintln!("The cluster is ready. export KUBECONFIG={}", cluster.kubeconfig().display());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
