//! Readiness and liveness probes over HTTP and TCP. A probe of another kind never succeeds.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::fields::ADDRESS;

/// Runs a readiness probe for ever and passes every result, by its thresholds, to `ready`.
pub(super) async fn watch_readiness(container: &Container, probe: &Probe, mut ready: impl FnMut(bool)) -> Infallible {
    sleep(initial_delay(probe)).await;
    let mut state = false;
    loop {
        state = next_state(container, probe, state).await;
        ready(state);
    }
}

/// Runs a liveness probe and returns when it has reached its failure threshold.
pub(super) async fn watch_liveness(container: &Container, probe: &Probe) {
    sleep(initial_delay(probe)).await;
    next_state(container, probe, true).await;
}

fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds.unwrap_or(0))
}

/// Probes until the result differs from `state` as many times in a row as the threshold.
async fn next_state(container: &Container, probe: &Probe, state: bool) -> bool {
    let threshold = if state { probe.failure_threshold.unwrap_or(3) } else { probe.success_threshold.unwrap_or(1) };
    let mut differing = 0;
    loop {
        if succeeds(container, probe).await == state {
            differing = 0;
        } else {
            differing += 1;
            if differing >= threshold {
                return !state;
            }
        }
        sleep(seconds(probe.period_seconds.unwrap_or(10).max(1))).await;
    }
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

async fn succeeds(container: &Container, probe: &Probe) -> bool {
    let check = async {
        if let Some(http) = &probe.http_get {
            let port = port(container, &http.port)?;
            http_succeeds(port, http.path.as_deref().unwrap_or("/")).await
        } else {
            let tcp = probe.tcp_socket.as_ref()?;
            let port = port(container, &tcp.port)?;
            TcpStream::connect((ADDRESS, port)).await.ok().map(|_| ())
        }
    };
    let limit = seconds(probe.timeout_seconds.unwrap_or(1).max(1));
    matches!(timeout(limit, check).await, Ok(Some(())))
}

/// The number of a port, which may be the name of a port of the container.
fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    number.try_into().ok()
}

/// Whether the response to a GET has a status of 200 to 399.
async fn http_succeeds(port: u16, path: &str) -> Option<()> {
    let mut stream = TcpStream::connect((ADDRESS, port)).await.ok()?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {ADDRESS}:{port}\r\nUser-Agent: kube-probe/local\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut line).await.ok()?;
    let status: u16 = std::str::from_utf8(&line[9..]).ok()?.parse().ok()?;
    (200..400).contains(&status).then_some(())
}
