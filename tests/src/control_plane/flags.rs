//! The flags of the four servers.

use std::path::Path;

use super::certificates::Certificates;

/// The ports of one control plane, all on loopback.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) apiserver: u16,
}

pub(super) fn etcd(ports: Ports, data: &Path) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data does not outlive the test run.
        "--unsafe-no-fsync".into(),
    ]
}

pub(super) fn apiserver(ports: Ports, tokens: &Path, certificates: &Certificates, scratch: &Path) -> Vec<String> {
    vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        format!("--secure-port={}", ports.apiserver),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        format!("--cert-dir={}", scratch.display()),
        format!("--tls-cert-file={}", certificates.server.display()),
        format!("--tls-private-key-file={}", certificates.server_key.display()),
        "--authorization-mode=Node,RBAC".into(),
        format!("--token-auth-file={}", tokens.display()),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", certificates.service_account.display()),
        format!("--service-account-signing-key-file={}", certificates.service_account_key.display()),
    ]
}

pub(super) fn controller_manager(kubeconfig: &Path, certificates: &Certificates) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        // The nodes are kubelets of this process, without machines in a cloud or on a network.
        "--controllers=*,-node-lifecycle-controller,-node-ipam-controller,-node-route-controller,\
         -service-lb-controller"
            .into(),
        "--use-service-account-credentials=true".into(),
        format!("--service-account-private-key-file={}", certificates.service_account_key.display()),
        // Published to every namespace as the ConfigMap kube-root-ca.crt.
        format!("--root-ca-file={}", certificates.authority.display()),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}

pub(super) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}
