//! Leases, samples and mitigations of the run.

use crds::summary::{LeaseEvent, MitigationEvent, MitigationKind, Sample};
use jiff::{SignedDuration, Timestamp};

use super::size::{GIB, SHARDS};

/// The passes of a shard: stage, model, begin and length in seconds, peak in tenths of a GiB, tokens per second.
const PASSES: [(&str, &str, i64, i64, u64, f64); 3] = [
    ("dense", "minilm", 3, 98, 43, 70_000.0),
    ("dense", "bge", 105, 158, 92, 46_000.0),
    ("sparse", "splade", 267, 83, 115, 88_000.0),
];

pub fn leases() -> Vec<LeaseEvent> {
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

pub fn samples() -> Vec<Sample> {
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

pub fn mitigations() -> Vec<MitigationEvent> {
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

/// The second in which a shard begins; two shards run at a time.
fn start(shard: u32) -> i64 {
    i64::from(shard / 2) * 372 + i64::from(shard % 2) * 7
}

fn at(second: i64) -> String {
    let begin: Timestamp = "2026-11-25T09:10:02Z".parse().expect("a moment");
    (begin + SignedDuration::from_secs(second)).to_string()
}
