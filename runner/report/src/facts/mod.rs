//! The facts of a summary as tables and sentences, without layout: the same for every form of the report.

mod fallbacks;
mod files;
mod passes;
mod quality;
mod row_limit;
mod stages;
mod telemetry;
mod toggles;

pub use self::{
    fallbacks::fallbacks,
    files::{collections, export_size, files, omitted_files},
    passes::{dense, models, sparse, tokens_per_second},
    quality::{gate, judged_queries, metric_names, quality},
    stages::{devices_used, fusion, rerank, rerank_outcome, sparse_outcome},
    telemetry::{leases, metric_values, omitted_leases, spans},
    toggles::{Toggle, toggles},
};
