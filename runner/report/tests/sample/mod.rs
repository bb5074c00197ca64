//! Summaries to show: a run with something of everything, one of its collections, an empty run, and hostile ones.

// Every test that includes this file uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;

use crds::{
    summary::{
        CollectionPointer, DensePass, DenseRun, DeviceRun, Example, ExampleHit, ExportRun, ExportedFile, Fallback,
        FeatureToggles, FusedModel, FusionRun, GateOutcome, LeaseEvent, LengthBucket, ListQuality, MitigationEvent,
        MitigationKind, ModelFallback, ProcessingSummary, Quality, QueryOrigin, RerankModel, RerankRun, RunInfo,
        SCHEMA_VERSION, Sample, SpanSummary, SparsePass, SparseRun, Telemetry, ToggleResolution,
    },
    v1alpha1::{FallbackReason, FallbackSource},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

const GIB: u64 = 1 << 30;
const SHARDS: u32 = 4;
const ROWS: u64 = 51_200;

/// A run over one collection in which much fell back.
pub fn run() -> ProcessingSummary {
    let chunks = u64::from(SHARDS) * ROWS;
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
        warnings: vec![
            "collection guides: skipped 2 files with unknown extensions: logo.svg, video.mp4".into(),
        ],
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

/// A run over nothing, with no stage but the dense one.
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

/// A summary in which every text that may be anything is `text`; times and enums are left.
pub fn hostile(text: &str) -> ProcessingSummary {
    with_texts(|| text.to_owned())
}

/// A summary in which every text is another one.
pub struct Marked {
    /// The summary.
    pub summary: ProcessingSummary,
    /// Its texts.
    pub texts: Vec<String>,
}

/// A summary with a mark for every text but those of the mitigations, which are counted and not named.
pub fn marked() -> Marked {
    let mut texts = Vec::new();
    let mut summary = with_texts(|| {
        texts.push(format!("mark{}x", texts.len()));
        texts[texts.len() - 1].clone()
    });
    summary.telemetry.mitigation_events.clear();
    // A mark that an enum refused is in no place.
    let document = serde_json::to_string(&summary).expect("a summary is JSON");
    texts.retain(|text| document.contains(text.as_str()));
    Marked { summary, texts }
}

fn with_texts(mut text: impl FnMut() -> String) -> ProcessingSummary {
    let mut summary = collection();
    summary.collections = run().collections;
    summary.telemetry.samples.truncate(2);
    summary.telemetry.lease_events.truncate(2);
    summary.telemetry.mitigation_events.truncate(2);
    let mut document = serde_json::to_value(&summary).expect("a summary is JSON");
    let mut paths = Vec::new();
    collect_texts(&document, String::new(), &mut paths);
    for path in paths {
        let place = document.pointer_mut(&path).expect("the path was just found");
        let before = std::mem::replace(place, text().into());
        // What the schema refuses is an enum, which cannot be hostile.
        if serde_json::from_value::<ProcessingSummary>(document.clone()).is_err() {
            *document.pointer_mut(&path).expect("the path was just found") = before;
        }
    }
    let mut summary: ProcessingSummary = serde_json::from_value(document).expect("only texts were replaced");
    summary.telemetry.metrics.insert(text(), 1.0);
    summary.quality.as_mut().expect("a quality").lists[0].metrics.insert(text(), 0.5);
    summary
}

fn collect_texts(value: &Value, path: String, paths: &mut Vec<String>) {
    let time = ["/at", "_at"].iter().any(|end| path.ends_with(end)) && path != "/generated_at";
    match value {
        Value::String(_) if !time => paths.push(path),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_texts(item, format!("{path}/{index}"), paths);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                collect_texts(field, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), paths);
            }
        }
        _ => {}
    }
}

fn toggles() -> FeatureToggles {
    let said = |key: &str, value: &str, source: &str, layer: &str| ToggleResolution {
        key: key.into(),
        value: value.into(),
        source: source.into(),
        layer: layer.into(),
    };
    FeatureToggles {
        exclusive: true,
        sparse: true,
        rerank: true,
        metrics: true,
        sources: [("exclusive", "default"), ("sparse", "spec"), ("rerank", "env"), ("metrics", "default")]
            .map(|(key, layer)| (key.to_owned(), layer.to_owned()))
            .into(),
        provenance: vec![
            said("exclusive", "true", "default", "default"),
            said("sparse", "false", "default", "default"),
            said("sparse", "true", "spec.toggles.sparse", "spec"),
            said("rerank", "false", "default", "default"),
            said("rerank", "true", "EMBEDDER_ENABLE_RERANK", "env"),
            said("metrics", "true", "default", "default"),
        ],
    }
}

fn dense(chunks: u64) -> DenseRun {
    let lengths = [(32, 11_204), (64, 31_876), (128, 64_310), (192, 51_077), (256, 28_940), (384, 12_880), (512, 3921)];
    let lengths = |more: u64| -> Vec<LengthBucket> {
        let buckets = lengths.map(|(up_to, chunks)| LengthBucket { up_to, chunks });
        buckets.into_iter().chain([LengthBucket { up_to: 1024, chunks: more }]).collect()
    };
    let minilm = DensePass {
        model: "minilm".into(),
        source: "hf://sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f207416be6d2e6f8de32d1f16199bf".into(),
        weights_sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db".into(),
        pooling: "Mean".into(),
        max_tokens: 256,
        dimensions: 384,
        dtype: "F16".into(),
        precision: "F32".into(),
        quantization: None,
        document_prompt: None,
        chunks,
        tokens: 27_480_310,
        truncated_chunks: 17_393,
        tokens_lost: 2_018_440,
        batches: 1711,
        seconds: 392.6,
        peak_bytes: 4 * GIB + GIB / 3,
        mitigations: 0,
        token_lengths: lengths(592),
    };
    let bge = DensePass {
        model: "bge".into(),
        source: "pvc://models/bge-small-en-v1.5".into(),
        weights_sha256: "3c9f31665447c8911517620762200d2245a2518d6e7208acc78cd9db317e21ad".into(),
        pooling: "Cls".into(),
        max_tokens: 512,
        precision: "Int8".into(),
        quantization: Some("scale of the largest value of a row".into()),
        document_prompt: Some("passage: ".into()),
        tokens: 29_308_115,
        truncated_chunks: 592,
        tokens_lost: 190_635,
        seconds: 631.9,
        peak_bytes: 9 * GIB + GIB / 5,
        ..minilm.clone()
    };
    let left_out = ModelFallback {
        model: "bge-large".into(),
        fallback: Fallback { reason: FallbackReason::ModelUnavailable, source: FallbackSource::Load, count: 4 },
        message: "model bge-large: pvc://models/bge-large-en-v1.5 has no model.safetensors".into(),
    };
    DenseRun { passes: vec![minilm, bge], fallbacks: vec![left_out] }
}

fn sparse(chunks: u64) -> SparseRun {
    SparseRun {
        enabled: true,
        executed: true,
        fallback: Some(Fallback { reason: FallbackReason::OutOfMemory, source: FallbackSource::Runtime, count: 137 }),
        fallback_message: Some("model splade: out of memory for one chunk of 512 tokens".into()),
        passes: vec![SparsePass {
            model: "splade".into(),
            source: "file:///models/splade-tiny".into(),
            weights_sha256: "b01f5e4bcd42a1c8".repeat(4),
            dtype: "F32".into(),
            vocabulary: 30_522,
            max_tokens: 512,
            top_k: Some(256),
            threshold: 0.0,
            chunks,
            model_chunks: chunks - 137,
            metadata_chunks: 137,
            entries: 24_719_008,
            tokens: 29_290_001,
            truncated_chunks: 592,
            tokens_lost: 190_635,
            batches: 2410,
            seconds: 332.0,
            peak_bytes: 11 * GIB + GIB / 2,
            mitigations: 6,
        }],
        coverage: Some(0.99933),
        seconds: 332.0,
    }
}

fn rerank() -> RerankRun {
    RerankRun {
        enabled: true,
        executed: true,
        fallback: None,
        fallback_message: None,
        model: Some(RerankModel {
            model: "ce".into(),
            source: "file:///models/ms-marco-MiniLM-L12-v2".into(),
            weights_sha256: "7f0c2d9915ab34e8".repeat(4),
            dtype: "F32".into(),
        }),
        device: Some("cuda".into()),
        device_fallback: None,
        queries_from: QueryOrigin::Spec,
        queries: 120,
        candidate_fusion: Some("ReciprocalRankFusion".into()),
        candidates_per_query: 100,
        top_k: 20,
        pairs: 12_000,
        tokens: 2_610_440,
        truncated_pairs: 88,
        batches: 204,
        seconds: 41.3,
        median_query_seconds: Some(0.331),
        mean_top_score_before: Some(0.6127),
        mean_top_score_after: Some(5.0831),
        top_changed: Some(0.4333),
        rankings: Some("runs/7f3a91c04d/guides/rankings.jsonl".into()),
    }
}

fn export() -> ExportRun {
    let file = |shard: u32| ExportedFile {
        path: format!("runs/7f3a91c04d/guides/shard-{shard:05}/vectors.parquet"),
        rows: ROWS,
        bytes: 131_482_190 + u64::from(shard) * 1771,
        sha256: format!("{shard}f2e9d4c{}", "0badc0de".repeat(7)),
    };
    let files: Vec<ExportedFile> = (0..SHARDS).map(file).collect();
    ExportRun {
        destination: "pvc://vectors/handbook/".into(),
        total_bytes: files.iter().map(|file| file.bytes).sum(),
        files,
    }
}

fn quality() -> Quality {
    let list = |stage: &str, model: Option<&str>, [ndcg, recall, mrr]: [f64; 3]| ListQuality {
        stage: stage.into(),
        model: model.map(str::to_owned),
        metrics: [("ndcg@10", ndcg), ("recall@100", recall), ("mrr", mrr)]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    };
    Quality {
        judged_queries: 118,
        unknown_relevant: 3,
        lists: vec![
            list("dense", Some("minilm"), [0.3412, 0.7120, 0.3608]),
            list("dense", Some("bge"), [0.3877, 0.7733, 0.4019]),
            list("sparse", Some("splade"), [0.3590, 0.7418, 0.3885]),
            list("fused", None, [0.3954, 0.7902, 0.4104]),
            list("candidates", None, [0.4021, 0.8466, 0.4230]),
            list("reranked", None, [0.4187, 0.8466, 0.4511]),
        ],
    }
}

fn examples() -> Vec<Example> {
    let hit = |id: &str, text: &str, score, rank_before| ExampleHit {
        id: id.into(),
        text: text.into(),
        score,
        rank_before: Some(rank_before),
    };
    vec![
        Example {
            query: "How do I rotate the credentials of a service?".into(),
            found: vec![
                hit(
                    "security/rotation#3",
                    "Credentials are rotated by writing the new secret beside the old one; the service reads both until …",
                    7.8812,
                    4,
                ),
                hit(
                    "security/rotation#1",
                    "A rotation has three steps: issue, distribute, revoke. Between the second and …",
                    6.9031,
                    1,
                ),
                hit(
                    "runbooks/secrets#12",
                    "If a service does not pick up a rotated secret within five minutes, restart …",
                    4.1277,
                    9,
                ),
            ],
        },
        Example {
            query: "What happens to a run when its node is drained?".into(),
            found: vec![
                hit(
                    "operations/nodes#8",
                    "Draining evicts the pods of a run; a disruption is not charged as a failure …",
                    8.2044,
                    1,
                ),
                hit(
                    "operations/nodes#2",
                    "A node is cordoned first, so that nothing new is scheduled on it …",
                    5.5120,
                    2,
                ),
            ],
        },
    ]
}

/// The passes of a shard: stage, model, begin and length in seconds, peak in tenths of a GiB, tokens a second.
const PASSES: [(&str, &str, i64, i64, u64, f64); 3] = [
    ("dense", "minilm", 3, 98, 43, 70_000.0),
    ("dense", "bge", 105, 158, 92, 46_000.0),
    ("sparse", "splade", 267, 83, 115, 88_000.0),
];

fn leases() -> Vec<LeaseEvent> {
    let lease = |shard, stage: &str, model: &str, begin, length, peak: u64| LeaseEvent {
        shard,
        stage: stage.into(),
        model: model.into(),
        device: if shard == Some(3) { "cpu".into() } else { "cuda (NVIDIA L4)".into() },
        acquired_at: at(begin),
        released_at: at(begin + length),
        bytes_before: GIB / 4,
        bytes_peak: GIB * peak / 10,
        bytes_after: GIB / 4 + GIB / 50,
        ceiling_bytes: Some(12 * GIB),
        memory_source: if shard == Some(3) { "process".into() } else { "nvml".into() },
    };
    let of_shard = |shard: u32| {
        PASSES.map(|(stage, model, begin, length, peak, _)| {
            lease(Some(shard), stage, model, start(shard) + begin, length + i64::from(shard) * 2, peak)
        })
    };
    (0..SHARDS).flat_map(of_shard).chain([lease(None, "rerank", "ce", 752, 41, 31)]).collect()
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for shard in 0..SHARDS {
        for (stage, model, begin, length, peak, rate) in PASSES {
            for step in 1..=length / 5 {
                let wave = (step as f64 * 1.7 + f64::from(shard)).sin() * 0.5 + (step as f64 * 0.31).cos() * 0.5;
                let warm = (step as f64 / 3.0).min(1.0);
                samples.push(Sample {
                    shard: Some(shard),
                    stage: stage.into(),
                    model: model.into(),
                    at: at(start(shard) + begin + step * 5),
                    millis: 5000,
                    tokens: (rate * 5.0 * warm * (1.0 + wave * 0.08)) as u64,
                    used_bytes: (GIB as f64 * peak as f64 / 10.0 * (0.55 + 0.4 * warm + wave * 0.04)) as u64,
                });
            }
        }
    }
    samples
}

fn mitigations() -> Vec<MitigationEvent> {
    let event = |second: i64, kind, tokens_before, tokens_after, tenths: u64| MitigationEvent {
        shard: Some(1),
        stage: "sparse".into(),
        model: "splade".into(),
        kind,
        at: at(start(1) + 267 + second),
        tokens_before,
        tokens_after,
        used_bytes: GIB * tenths / 10,
        ceiling_bytes: 12 * GIB,
    };
    vec![
        event(8, MitigationKind::Shrink, 16_384, 12_288, 116),
        event(11, MitigationKind::Split, 12_288, 6144, 119),
        event(46, MitigationKind::Recover, 6144, 12_288, 78),
        event(60, MitigationKind::Shrink, 12_288, 8192, 117),
    ]
}

/// When a shard begins: two at a time.
fn start(shard: u32) -> i64 {
    i64::from(shard / 2) * 372 + i64::from(shard % 2) * 7
}

fn at(second: i64) -> String {
    let begin: Timestamp = "2026-11-25T09:10:02Z".parse().expect("a moment");
    (begin + SignedDuration::from_secs(second)).to_string()
}
