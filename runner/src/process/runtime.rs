//! The asynchronous runtime below the blocking pipeline: for the clients of stores and hubs, `/metrics` and signals.

use std::sync::LazyLock;

use tokio::runtime::Runtime;

/// The runtime of the process. It has one thread, because its tasks mostly wait.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started")
    });
    &RUNTIME
}
