//! The fixed points of the contract: its version, and the paths and names in a pod that both sides know.

/// The version of this contract. A runner refuses a configuration of another version by name.
pub const CONTRACT_VERSION: u32 = 1;

/// Where the configuration is mounted in a pod.
pub const CONFIG_DIR: &str = "/embedrun/config";
/// The key of the ConfigMap, and so the name of the file, that holds the configuration.
pub const CONFIG_KEY: &str = "run.json";
/// The name of the runner's container.
pub const CONTAINER: &str = "runner";
/// Where a pod's runner writes its result.
pub const RESULT_PATH: &str = "/dev/termination-log";
