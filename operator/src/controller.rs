//! The watches of the operator, and the retries of failed reconciliations.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::v1alpha1::EmbeddingRun;
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    runtime::{
        Controller,
        controller::{Action, Config},
        watcher,
    },
};

use crate::{
    context::Context,
    error::{Error, sentence},
    reconcile::{self, names::LABEL_MANAGED_BY},
    settings::FIELD_MANAGER,
};

/// The delay after the first error; every consecutive error doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest delay after an error.
const LAST_RETRY: Duration = Duration::from_mins(2);

/// Reconciles the runs of `namespace` (`None`: of all namespaces) until `stop` completes. Active reconciliations finish
/// first.
pub async fn run(
    context: Arc<Context>,
    namespace: Option<&str>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = context.client.clone();
    let (runs, jobs) = match namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace)),
        None => (Api::all(client.clone()), Api::all(client)),
    };
    let own_jobs = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={FIELD_MANAGER}"));
    let controller = Controller::<EmbeddingRun>::new(runs, watcher::Config::default());
    let store = controller.store();
    controller
        .owns::<Job>(jobs, own_jobs)
        .with_config(Config::default().concurrency(8))
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context.clone())
        .for_each(|outcome| {
            context.metrics.set_runs(store.state().iter().map(AsRef::as_ref));
            if let Err(error) = outcome {
                tracing::debug!(%error, "a reconciliation was not completed");
            }
            std::future::ready(())
        })
        .await;
}

#[tracing::instrument(skip_all, fields(
    namespace = run.metadata.namespace.as_deref().unwrap_or_default(),
    name = run.metadata.name.as_deref().unwrap_or_default(),
    generation = run.metadata.generation.unwrap_or_default(),
))]
async fn reconcile(run: Arc<EmbeddingRun>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let outcome = reconcile::reconcile(&run, &context).await;
    let result = outcome.as_ref().map_or_else(Error::class, |_| "ok");
    context.metrics.record_reconciliation(result, started.elapsed());
    if outcome.is_ok() {
        context.forget_errors(&run);
    }
    outcome
}

fn on_error(run: Arc<EmbeddingRun>, error: &Error, context: Arc<Context>) -> Action {
    let delay = retry_delay(context.count_error(&run));
    tracing::warn!(
        namespace = run.metadata.namespace.as_deref().unwrap_or_default(),
        name = run.metadata.name.as_deref().unwrap_or_default(),
        error = %sentence(error),
        retry_seconds = delay.as_secs(),
        "reconciliation failed, retrying"
    );
    Action::requeue(delay)
}

/// The delay after a number of consecutive errors.
fn retry_delay(errors: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(errors.saturating_sub(1))).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_bound() {
        assert_eq!([1, 2, 3, 8, 200].map(|errors| retry_delay(errors).as_secs()), [1, 2, 4, 120, 120]);
    }
}
