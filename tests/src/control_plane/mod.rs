//! etcd, the API server, the controller manager and the scheduler on loopback, started and stopped together.

mod access;
mod certificates;
mod flags;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::time::sleep;

use crate::assets::Assets;
use crate::process::Server;
use access::{ADMIN, CONTROLLER_MANAGER, SCHEDULER};
use certificates::Certificates;
use flags::Ports;

/// The limit of the time until the first pod can be created, which takes 10 to 20 seconds on two cores.
const STARTUP: Duration = Duration::from_mins(2);

/// Attempts to start: a port that was free when it was chosen may be taken when it is used.
const ATTEMPTS: usize = 3;

/// The running servers, in the order in which they are stopped.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    servers: Vec<Server>,
    port: u16,
    kubeconfig: PathBuf,
    config: Config,
}

impl ControlPlane {
    /// Starts the servers with their files in `folder` and waits until pods can be created.
    ///
    /// # Errors
    /// A server ended or did not get ready; the error has the end of its log.
    pub(crate) async fn start(assets: &Assets, folder: &Path) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::try_start(assets, folder).await {
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_start(assets: &Assets, folder: &Path) -> Result<Self> {
        let [data, logs, pki] = ["etcd", "logs", "pki"].map(|name| folder.join(name));
        // Leftovers of an earlier attempt, or of an earlier cluster in a directory that is kept.
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        for directory in [&logs, &pki] {
            fs::create_dir_all(directory)?;
        }
        let ports = free_ports()?;
        let url = format!("https://127.0.0.1:{}", ports.apiserver);
        let certificates = Certificates::write(&pki)?;
        let tokens = access::write_tokens(&pki)?;
        let kubeconfig = |user: access::User| user.write_kubeconfig(folder, &url, &certificates.authority);
        let admin = kubeconfig(ADMIN)?;
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&admin)?, &KubeConfigOptions::default()).await?;
        let server = |name: &str, flags: &[String]| Server::start(&assets.program(name), flags, &logs);

        let mut control_plane = Self {
            servers: vec![
                server("kube-apiserver", &flags::apiserver(ports, &tokens, &certificates, &pki))?,
                server("etcd", &flags::etcd(ports, &data))?,
            ],
            port: ports.apiserver,
            kubeconfig: admin,
            config,
        };
        let client = control_plane.client()?;
        control_plane
            .until("the API server is ready", async || {
                let request = http_get("/readyz")?;
                Ok(client.request_text(request).await.is_ok())
            })
            .await?;

        let flags = flags::controller_manager(&kubeconfig(CONTROLLER_MANAGER)?, &certificates);
        let controller_manager = server("kube-controller-manager", &flags)?;
        let scheduler = server("kube-scheduler", &flags::scheduler(&kubeconfig(SCHEDULER)?))?;
        control_plane.servers.splice(0..0, [scheduler, controller_manager]);
        control_plane
            .until("the controller manager has set up the default namespace", async || {
                namespace_is_ready(&client, "default").await
            })
            .await?;
        Ok(control_plane)
    }

    /// Polls `ready` until it is true, a server ends, or the time limit of the start is over.
    async fn until(&mut self, what: &str, ready: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        loop {
            for server in &mut self.servers {
                server.check()?;
            }
            if ready().await? {
                return Ok(());
            }
            if started.elapsed() > STARTUP {
                let tails: Vec<_> = self.servers.iter().map(Server::tail).collect();
                anyhow::bail!("timed out after {STARTUP:?} waiting until {what}\n{}", tails.join("\n"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A new client with all permissions. Its connections belong to the runtime that creates it.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::try_from(self.config.clone()).context("cannot create a client of the control plane")
    }

    /// The port of the API server on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The kubeconfig of the user with all permissions.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Whether the controllers have created the service account and the root certificate that pods of `namespace` need.
pub(crate) async fn namespace_is_ready(client: &Client, namespace: &str) -> Result<bool> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(accounts.get_opt("default").await?.is_some() && config_maps.get_opt("kube-root-ca.crt").await?.is_some())
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// Ports that are free now. All listeners are open at the same time, so that the ports differ.
fn free_ports() -> Result<Ports> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.and_then(|listener| listener.local_addr()).context("no free port on 127.0.0.1")?.port();
    }
    let [etcd, etcd_peer, apiserver] = ports;
    Ok(Ports { etcd, etcd_peer, apiserver })
}
