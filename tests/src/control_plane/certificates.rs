//! A certificate authority, the API server's certificate and the key that signs service-account tokens.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The names of the API server. Pods use the address, so that no DNS is needed.
const SERVER_NAMES: [&str; 4] = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"];

/// The files of the certificates and keys.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) service_account: PathBuf,
    pub(super) service_account_key: PathBuf,
}

impl Certificates {
    /// Generates new keys and writes them to `folder`.
    pub(super) fn write(folder: &Path) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "embedrun-test-ca");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let server_key = KeyPair::generate()?;
        let mut server = CertificateParams::new(SERVER_NAMES.map(String::from))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server = server.signed_by(&server_key, &authority)?;

        let service_account = KeyPair::generate()?;

        let write = |name: &str, pem: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            authority: write("ca.crt", authority.pem())?,
            server: write("apiserver.crt", server.pem())?,
            server_key: write("apiserver.key", server_key.serialize_pem())?,
            service_account: write("service-account.pub", service_account.public_key_pem())?,
            service_account_key: write("service-account.key", service_account.serialize_pem())?,
        })
    }
}
