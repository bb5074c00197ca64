//! The product end to end: the chart is installed, runs are applied, pods compute with a real model.

mod cards;
mod chart;
mod commits;
mod failures;
mod lifecycle;
mod rejections;
mod retrieval;
mod setup;
mod vectors;

use std::process::ExitCode;

use cards::pods_compute_on_their_cards_and_a_lost_card_is_retried;
use chart::{
    a_second_operator_stands_by_and_stops_on_sigterm, the_chart_lints_renders_and_rejects_wrong_values,
    the_operator_has_no_right_to_secrets, the_operator_serves_metrics,
};
use commits::a_shard_that_lacks_an_optional_model_is_embedded_again;
use failures::{
    a_bad_shard_is_named_and_the_good_ones_are_kept, a_missing_claim_holds_the_run_until_it_exists,
    bad_input_fails_with_its_reason, pods_that_the_namespace_rejects_are_reported,
};
use lifecycle::{
    a_changed_manifest_is_a_new_revision, a_deleted_run_leaves_nothing_behind, a_restarted_operator_loses_nothing,
    a_second_apply_does_nothing, a_second_run_with_the_same_output_does_not_move_its_readers,
    a_suspended_run_resumes_and_its_jobs_expire,
};
use rejections::{every_example_applies, fields_that_are_not_implemented_are_named, rules_reject_at_apply};
use retrieval::{
    a_failed_quality_gate_keeps_readers_on_the_old_revision,
    a_missing_optional_model_of_the_ensemble_is_skipped_and_reported, a_missing_optional_reranker_degrades_the_run,
    missing_queries_hold_the_run_until_they_exist,
    the_status_reports_every_stage_and_an_operator_restart_changes_nothing,
};
use vectors::two_collections_in_three_shards_become_vectors;

fn main() -> ExitCode {
    let mut tests = harness::tests![
        two_collections_in_three_shards_become_vectors,
        a_second_apply_does_nothing,
        a_changed_manifest_is_a_new_revision,
        a_second_run_with_the_same_output_does_not_move_its_readers,
        a_restarted_operator_loses_nothing,
        a_suspended_run_resumes_and_its_jobs_expire,
        a_deleted_run_leaves_nothing_behind,
        a_bad_shard_is_named_and_the_good_ones_are_kept,
        bad_input_fails_with_its_reason,
        a_missing_claim_holds_the_run_until_it_exists,
        pods_that_the_namespace_rejects_are_reported,
        a_shard_that_lacks_an_optional_model_is_embedded_again,
        the_status_reports_every_stage_and_an_operator_restart_changes_nothing,
        a_missing_optional_reranker_degrades_the_run,
        a_missing_optional_model_of_the_ensemble_is_skipped_and_reported,
        a_failed_quality_gate_keeps_readers_on_the_old_revision,
        missing_queries_hold_the_run_until_they_exist,
        rules_reject_at_apply,
        fields_that_are_not_implemented_are_named,
        every_example_applies,
        the_chart_lints_renders_and_rejects_wrong_values,
        the_operator_has_no_right_to_secrets,
        the_operator_serves_metrics,
        a_second_operator_stands_by_and_stops_on_sigterm,
    ];
    // `make cuda-test` builds what these need.
    if cards::image().is_some() {
        tests.extend(harness::tests![pods_compute_on_their_cards_and_a_lost_card_is_retried]);
    }
    harness::suite::run(setup::options, tests)
}
