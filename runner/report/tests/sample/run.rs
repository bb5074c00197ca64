//! The run, its collection, and an empty run.

use std::collections::BTreeMap;

use crds::{
    summary::{
        CollectionPointer, DenseRun, DeviceRun, ExportRun, FeatureToggles, FusedModel, FusionRun, GateOutcome,
        ProcessingSummary, RerankRun, RunInfo, SCHEMA_VERSION, SpanSummary, SparseRun, Telemetry,
    },
    v1alpha1::{FallbackReason, Similarity},
};

use super::{
    retrieval::{examples, quality},
    size::{ROWS_PER_SHARD, SHARDS},
    stages::{dense, export, rerank, sparse, toggles},
    telemetry::{leases, mitigations, samples},
};

/// A run over one collection with many fallbacks.
pub fn run() -> ProcessingSummary {
    let chunks = u64::from(SHARDS) * ROWS_PER_SHARD;
    ProcessingSummary {
        schema_version: SCHEMA_VERSION.into(),
        generated_at: "2026-11-25T09:24:08Z".into(),
        run: RunInfo {
            namespace: "search".into(),
            name: "handbook".into(),
            revision: "7f3a91c04d".into(),
            runner_version: "0.1.0".into(),
        },
        collection: None,
        collections: vec![CollectionPointer {
            name: "guides".into(),
            chunk_count: chunks,
            summary: "pvc://vectors/handbook/runs/7f3a91c04d/guides/processing_summary.json".into(),
            sha256: "9a1c64be20d7".repeat(5) + "9a1c",
        }],
        chunk_count: chunks,
        skipped_chunks: 17,
        feature_toggles: toggles(),
        device_run: DeviceRun {
            requested: "cuda".into(),
            used: vec!["cpu".into(), "cuda (NVIDIA L4)".into()],
            fallback_reason: Some(FallbackReason::DeviceFallback),
            fallback_count: 1,
        },
        dense_run: dense(chunks),
        sparse_run: sparse(chunks),
        fusion_run: Some(FusionRun {
            column: "fused".into(),
            method: "WeightedConcat".into(),
            models: vec![
                FusedModel { model: "minilm".into(), share: 0.4 },
                FusedModel { model: "bge".into(), share: 0.6 },
            ],
            dimensions: 768,
            precision: "F32".into(),
            similarity: Similarity::Cosine,
            seconds: 3.42,
        }),
        rerank_run: rerank(),
        quality: None,
        gate: Some(GateOutcome {
            metric: "ndcg@10".into(),
            value: 0.4187,
            minimum: Some(0.35),
            maximum_drop: Some(0.02),
            previous: Some(0.4432),
            not_compared: None,
            unknown_relevant: 3,
            passed: false,
        }),
        examples: Vec::new(),
        export_run: export(),
        telemetry: Telemetry {
            spans: [("rag.plan", 1, 1.9), ("rag.dense", 8, 1024.0), ("rag.sparse", 4, 332.0), ("rag.rerank", 1, 41.3)]
                .map(|(name, count, seconds)| SpanSummary { name: name.into(), count, seconds })
                .into(),
            metrics: BTreeMap::from([
                ("rag_chunks_total".into(), chunks as f64),
                ("rag_sparse_coverage_ratio".into(), 0.9993),
            ]),
            mitigation_events: mitigations(),
            lease_events: leases(),
            samples: Vec::new(),
        },
        warnings: vec!["collection guides: skipped 2 files with unknown extensions: logo.svg, video.mp4".into()],
    }
}

/// The collection of [`run`].
pub fn collection() -> ProcessingSummary {
    let run = run();
    ProcessingSummary {
        collection: Some("guides".into()),
        collections: Vec::new(),
        quality: Some(quality()),
        examples: examples(),
        telemetry: Telemetry { samples: samples(), ..run.telemetry.clone() },
        ..run
    }
}

/// A run without chunks, with the dense stage alone.
pub fn empty() -> ProcessingSummary {
    ProcessingSummary {
        collections: Vec::new(),
        chunk_count: 0,
        skipped_chunks: 0,
        feature_toggles: FeatureToggles {
            exclusive: true,
            sparse: false,
            rerank: false,
            metrics: true,
            sources: BTreeMap::new(),
            provenance: Vec::new(),
        },
        device_run: DeviceRun { requested: "cpu".into(), used: Vec::new(), fallback_reason: None, fallback_count: 0 },
        dense_run: DenseRun::default(),
        sparse_run: SparseRun::default(),
        fusion_run: None,
        rerank_run: RerankRun::default(),
        gate: None,
        export_run: ExportRun::default(),
        telemetry: Telemetry::default(),
        warnings: Vec::new(),
        ..run()
    }
}
