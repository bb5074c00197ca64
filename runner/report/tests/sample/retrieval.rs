//! Retrieval quality and example queries.

use crds::summary::{Example, ExampleHit, ListQuality, Quality};

pub fn quality() -> Quality {
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
        queries_sha256: Some("5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9".into()),
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

pub fn examples() -> Vec<Example> {
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
