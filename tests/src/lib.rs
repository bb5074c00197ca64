//! A real Kubernetes control plane and a local kubelet, for tests against a cluster.
//!
//! etcd, the API server, the controller manager and the scheduler are the real programs ([`assets`] finds or
//! builds them, [`control_plane`] runs them). Pods bound to a node of the [`kubelet`] run as sandboxed
//! processes of this machine. [`Cluster`] combines the two, and [`suite`] runs the tests of one binary
//! against one cluster.

pub mod assets;
pub mod cluster;
mod commands;
mod control_plane;
mod kubelet;
mod process;
pub mod suite;
mod wait;
mod workdir;

pub use cluster::{Cluster, ClusterOptions, Namespace, NodeOptions, PodSecurity};
pub use kubelet::Image;
pub use suite::Test;
