//! The version of the contract, and the paths and names in a pod that operator and runner share.

/// The version of this contract. A runner rejects a configuration with another version.
pub const CONTRACT_VERSION: u32 = 1;

/// The mount path of the configuration in a pod.
pub const CONFIG_DIR: &str = "/embedrun/config";
/// The key of the ConfigMap, and so the file name, of the configuration.
pub const CONFIG_KEY: &str = "run.json";
/// The name of the runner's container.
pub const CONTAINER: &str = "runner";
/// The file to which the runner of a pod writes its result.
pub const RESULT_PATH: &str = "/dev/termination-log";
/// The environment variable that names the file with the token of the hub.
pub const HUB_TOKEN_VARIABLE: &str = "EMBEDRUN_HUB_TOKEN_FILE";
/// The mount path of the token of the hub, in pods that ask the hub.
pub const HUB_TOKEN_DIR: &str = "/embedrun/hub-token";
/// The name of the file there.
pub const HUB_TOKEN_FILE: &str = "token";
