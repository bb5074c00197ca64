//! From a spec to the [`RunnerConfig`] that the runner executes: volumes become paths.
//!
//! In a pod, volumes have fixed mount paths; on one machine, the user maps them to folders. The operator and the
//! command line call the same [`resolve`] with different [`Volumes`], so that a manifest means the same to both.

mod error;
mod uses;
mod volume;
mod volume_path;

use self::volume_path::{VolumePath, join};
pub use self::{
    error::ResolveError,
    uses::{ModelUse, VolumeUse, models, volumes},
    volume::{PodVolumes, Purpose, Volume, Volumes},
    volume_path::output_uri,
};
use crate::{
    contract::{
        CONTRACT_VERSION, CollectionConfig, DenseConfig, Place, RerankConfig, RerankerConfig, RunRef, RunnerConfig,
        SparseConfig,
    },
    identity::{self, Revision},
    v1alpha1::{EmbeddingRunSpec, ModelSource, QueriesSpec},
};

/// The configuration that the runner executes for `spec`; `volumes` locates what the spec names.
///
/// # Errors
///
/// [`ResolveError`] for a model URI that has none of the known forms, and for a volume that `volumes` cannot locate.
pub fn resolve(run: RunRef, spec: &EmbeddingRunSpec, volumes: &dyn Volumes) -> Result<RunnerConfig, ResolveError> {
    let collections = collections(spec, volumes)?;
    let models = models(spec)?;
    let model = |purpose: Purpose| {
        let model = models.iter().find(|model| model.purpose == purpose);
        model_place(model.expect("every model of the spec is listed"), volumes)
    };
    let mut dense = Vec::with_capacity(spec.models.dense.len());
    for (index, spec) in spec.models.dense.iter().enumerate() {
        dense.push(DenseConfig {
            name: spec.name.clone(),
            source: model(Purpose::DenseModel(index))?,
            pooling: spec.pooling,
            max_tokens: spec.max_tokens,
            prompts: spec.prompts.clone(),
            dimensions: spec.dimensions,
            dtype: spec.dtype,
            precision: spec.precision,
            weight: spec.weight,
            optional: spec.optional,
        });
    }
    let mut sparse = Vec::with_capacity(spec.models.sparse.len());
    for (index, spec) in spec.models.sparse.iter().enumerate() {
        sparse.push(SparseConfig {
            name: spec.name.clone(),
            source: model(Purpose::SparseModel(index))?,
            max_tokens: spec.max_tokens,
            top_k: spec.top_k,
            threshold: spec.threshold,
            optional: spec.optional,
        });
    }
    let reranker = match &spec.models.reranker {
        Some(spec) => Some(RerankerConfig {
            name: spec.name.clone(),
            source: model(Purpose::Reranker)?,
            max_tokens: spec.max_tokens,
            optional: spec.optional,
        }),
        None => None,
    };
    let output = VolumePath::of_output(&spec.output)
        .ok_or_else(|| not_implemented("spec.output".into(), "output"))?
        .place(Purpose::Output, volumes)?;
    Ok(RunnerConfig {
        version: CONTRACT_VERSION,
        run,
        revision: Revision::of(spec),
        identity_sha256: identity::identity_sha256(spec),
        collections,
        dense,
        sparse,
        reranker,
        fusion: spec.fusion.clone().unwrap_or_default(),
        rerank: rerank(spec, volumes)?,
        toggles: spec.toggles.clone().unwrap_or_default(),
        output,
    })
}

fn collections(spec: &EmbeddingRunSpec, volumes: &dyn Volumes) -> Result<Vec<CollectionConfig>, ResolveError> {
    let mut collections = Vec::with_capacity(spec.collections.len());
    for (index, collection) in spec.collections.iter().enumerate() {
        let source = VolumePath::of_source(&collection.source)
            .ok_or_else(|| not_implemented(format!("spec.collections[{index}].source"), "source"))?;
        collections.push(CollectionConfig {
            name: collection.name.clone(),
            source: source.place(Purpose::Source(index), volumes)?,
            format: collection.format,
            fields: collection.fields.clone(),
        });
    }
    Ok(collections)
}

/// The folder of a model. A hub model has no path: the runner fetches it into its own cache.
fn model_place(model: &ModelUse, volumes: &dyn Volumes) -> Result<Place, ResolveError> {
    let path = match &model.source {
        ModelSource::File { path } => path.clone(),
        ModelSource::Claim { claim, path } => join(&volumes.root(model.purpose, Volume::Claim(claim))?, path),
        ModelSource::Hub { .. } => String::new(),
    };
    Ok(Place { path, uri: model.source.to_string() })
}

fn rerank(spec: &EmbeddingRunSpec, volumes: &dyn Volumes) -> Result<Option<RerankConfig>, ResolveError> {
    let Some(rerank) = &spec.rerank else { return Ok(None) };
    let file = |queries: &QueriesSpec| VolumePath::of_key(&queries.config_map).place(Purpose::Queries, volumes);
    Ok(Some(RerankConfig {
        queries: rerank.queries.as_ref().map(file).transpose()?,
        candidates: rerank.candidates.unwrap_or(RerankConfig::CANDIDATES),
        top_k: rerank.top_k.unwrap_or(RerankConfig::TOP_K),
        gate: rerank.gate.clone(),
    }))
}

fn not_implemented(field: String, kind: &str) -> ResolveError {
    ResolveError::Volume { field, message: format!("this kind of {kind} is not implemented yet") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_bytes_of_a_configuration_are_pinned() {
        let spec = serde_json::from_value(json!({
            "collections": [{"name": "handbook", "source": {"pvc": {"claimName": "chunks", "path": "handbook/"}}}],
            "models": {"dense": [{"name": "bge", "source": "pvc://models/bge", "pooling": "Cls", "maxTokens": 128}]},
            "output": {"pvc": {"claimName": "vectors", "path": "out"}}
        }))
        .expect("a spec");
        let run = RunRef { namespace: "search".into(), name: "handbook".into(), uid: "1b2c".into() };
        let config = resolve(run, &spec, &PodVolumes).expect("a configuration");
        let compact = serde_json::to_string(&config).expect("JSON");
        assert_eq!(
            compact,
            concat!(
                r#"{"version":1,"run":{"namespace":"search","name":"handbook","uid":"1b2c"},"revision":"REVISION","identitySha256":"IDENTITY","#,
                r#""collections":[{"name":"handbook","source":{"path":"/embedrun/volumes/source-0/handbook","#,
                r#""uri":"pvc://chunks/handbook"},"format":"Auto","fields":{"id":"id","text":"text","metadata":"metadata"}}],"#,
                r#""dense":[{"name":"bge","source":{"path":"/embedrun/volumes/dense-0/bge","uri":"pvc://models/bge"},"#,
                r#""pooling":"Cls","maxTokens":128}],"output":{"path":"/embedrun/volumes/output/out","uri":"pvc://vectors/out"}}"#
            )
            .replace("REVISION", config.revision.as_str())
            .replace("IDENTITY", &config.identity_sha256)
        );
        assert_eq!(config.version, CONTRACT_VERSION);
        assert_eq!(serde_json::from_str::<RunnerConfig>(&config.to_json()).expect("a configuration"), config);
    }

    #[test]
    fn the_bytes_of_the_stages_after_the_dense_passes_are_pinned() {
        let spec = serde_json::from_value(json!({
            "collections": [{"name": "handbook", "source": {"hostPath": {"path": "/srv/handbook"}}}],
            "models": {
                "dense": [{"name": "bge", "source": "file:///m/bge", "weight": 0.5, "optional": true}],
                "sparse": [{"name": "splade", "source": "pvc://models/splade", "topK": 64, "threshold": 0.5}],
                "reranker": {"name": "ce", "source": "pvc://models/ce", "maxTokens": 256, "optional": true}
            },
            "toggles": {"rerank": true},
            "fusion": {"method": "WeightedMean"},
            "rerank": {
                "queries": {"configMap": {"name": "queries", "key": "q.jsonl"}},
                "topK": 5,
                "gate": {"metric": "ndcg@10", "minimum": 0.35}
            },
            "output": {"hostPath": {"path": "/srv/vectors"}}
        }))
        .expect("a spec");
        let run = RunRef { name: "handbook".into(), ..RunRef::default() };
        let config = resolve(run, &spec, &PodVolumes).expect("a configuration");
        let compact = serde_json::to_string(&config).expect("JSON");
        let (_, stages) = compact.split_once(r#""dense":"#).expect("the models");
        assert_eq!(
            stages,
            concat!(
                r#"[{"name":"bge","source":{"path":"/m/bge","uri":"file:///m/bge"},"weight":0.5,"optional":true}],"#,
                r#""sparse":[{"name":"splade","source":{"path":"/embedrun/volumes/sparse-0/splade","#,
                r#""uri":"pvc://models/splade"},"topK":64,"threshold":0.5}],"#,
                r#""reranker":{"name":"ce","source":{"path":"/embedrun/volumes/reranker/ce","uri":"pvc://models/ce"},"#,
                r#""maxTokens":256,"optional":true},"fusion":{"method":"WeightedMean"},"#,
                r#""rerank":{"queries":{"path":"/embedrun/volumes/queries/q.jsonl","uri":"configmap://queries/q.jsonl"},"#,
                r#""candidates":100,"topK":5,"gate":{"metric":"ndcg@10","minimum":0.35}},"toggles":{"rerank":true},"#,
                r#""output":{"path":"/embedrun/volumes/output","uri":"file:///srv/vectors"}}"#
            )
        );
        assert_eq!(serde_json::from_str::<RunnerConfig>(&config.to_json()).expect("a configuration"), config);
    }
}
