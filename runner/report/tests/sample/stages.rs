//! The stages of the run: toggles, dense, sparse, rerank, export.

use crds::{
    summary::{
        DensePass, DenseRun, ExportRun, ExportedFile, Fallback, FeatureToggles, LengthBucket, ModelFallback,
        QueryOrigin, RerankModel, RerankRun, SparsePass, SparseRun, ToggleResolution,
    },
    v1alpha1::{FallbackReason, FallbackSource, Similarity},
};

use super::size::{GIB, ROWS_PER_SHARD, SHARDS};

pub fn toggles() -> FeatureToggles {
    let entry = |key: &str, value: &str, source: &str, layer: &str| ToggleResolution {
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
            entry("exclusive", "true", "default", "default"),
            entry("sparse", "false", "default", "default"),
            entry("sparse", "true", "spec.toggles.sparse", "spec"),
            entry("rerank", "false", "default", "default"),
            entry("rerank", "true", "EMBEDDER_ENABLE_RERANK", "env"),
            entry("metrics", "true", "default", "default"),
        ],
    }
}

pub fn dense(chunks: u64) -> DenseRun {
    let lengths = [(32, 11_204), (64, 31_876), (128, 64_310), (192, 51_077), (256, 28_940), (384, 12_880), (512, 3921)];
    let lengths = |more: u64| -> Vec<LengthBucket> {
        let buckets = lengths.map(|(up_to, chunks)| LengthBucket { up_to, chunks });
        buckets.into_iter().chain([LengthBucket { up_to: 1024, chunks: more }]).collect()
    };
    let minilm = DensePass {
        model: "minilm".into(),
        source: "hf://sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f207416be6d2e6f8de32d1f16199bf".into(),
        weights_sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db".into(),
        model_sha256: "5d".repeat(32),
        tokenizer_sha256: "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0".into(),
        pooling: "Mean".into(),
        max_tokens: 256,
        dimensions: 384,
        dtype: "F16".into(),
        precision: "F32".into(),
        quantization: None,
        document_prompt: None,
        query_prompt: None,
        similarity: Similarity::Cosine,
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
        model_sha256: "5d".repeat(32),
        pooling: "Cls".into(),
        max_tokens: 512,
        precision: "Int8".into(),
        quantization: Some("scale of the largest value of a row".into()),
        document_prompt: Some("passage: ".into()),
        query_prompt: Some("query: ".into()),
        similarity: Similarity::Dot,
        tokens: 29_308_115,
        truncated_chunks: 592,
        tokens_lost: 190_635,
        seconds: 631.9,
        peak_bytes: 9 * GIB + GIB / 5,
        ..minilm.clone()
    };
    let skipped = ModelFallback {
        model: "bge-large".into(),
        fallback: Fallback { reason: FallbackReason::ModelUnavailable, source: FallbackSource::Load, count: 4 },
        message: "model bge-large: pvc://models/bge-large-en-v1.5 has no model.safetensors".into(),
    };
    DenseRun { passes: vec![minilm, bge], fallbacks: vec![skipped] }
}

pub fn sparse(chunks: u64) -> SparseRun {
    SparseRun {
        enabled: true,
        executed: true,
        fallback: Some(Fallback { reason: FallbackReason::OutOfMemory, source: FallbackSource::Runtime, count: 137 }),
        fallback_message: Some("model splade: out of memory for one chunk of 512 tokens".into()),
        passes: vec![SparsePass {
            model: "splade".into(),
            source: "file:///models/splade-tiny".into(),
            weights_sha256: "b01f5e4bcd42a1c8".repeat(4),
            model_sha256: "5d".repeat(32),
            dtype: "F32".into(),
            similarity: Similarity::Dot,
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

pub fn rerank() -> RerankRun {
    RerankRun {
        enabled: true,
        executed: true,
        fallback: None,
        fallback_message: None,
        model: Some(RerankModel {
            model: "ce".into(),
            source: "file:///models/ms-marco-MiniLM-L12-v2".into(),
            weights_sha256: "7f0c2d9915ab34e8".repeat(4),
            model_sha256: "5d".repeat(32),
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

pub fn export() -> ExportRun {
    let file = |shard: u32| ExportedFile {
        path: format!("runs/7f3a91c04d/guides/shard-{shard:05}/vectors.parquet"),
        rows: ROWS_PER_SHARD,
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
