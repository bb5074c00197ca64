//! The built children: names, owners, accelerators, limits, permissions.

use crds::{
    contract::{RunnerConfig, Stage},
    v1alpha1::EmbeddingRunStatus,
};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::json;

use super::{
    super::fixtures::{revision, run},
    *,
};

fn settings() -> Settings {
    Settings {
        runner_image: "registry.test/runner:1".into(),
        runner_cuda_image: Some("registry.test/runner-cuda:1".into()),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: vec!["pull".into()],
    }
}

fn built(run: &EmbeddingRun, stage: Stage) -> Children {
    build(run, Step { stage, completions: 3, chunks: 25 }, &settings()).expect("children")
}

fn pod(run: &EmbeddingRun, stage: Stage) -> PodSpec {
    built(run, stage).job.spec.and_then(|spec| spec.template.spec).expect("a pod")
}

fn container(run: &EmbeddingRun, stage: Stage) -> Container {
    pod(run, stage).containers.into_iter().next().expect("a container")
}

#[test]
fn children_are_named_by_run_and_revision_and_owned_by_the_run() {
    let run = run(json!({}));
    let children = built(&run, Stage::Embed);
    let short = revision(&run).short().to_owned();
    assert_eq!(children.job.metadata.name, Some(format!("demo-{short}-embed")));
    assert_eq!(children.config.metadata.name, Some(format!("demo-{short}-config")));
    for metadata in [&children.job.metadata, &children.config.metadata] {
        let owners = metadata.owner_references.as_ref().expect("owners");
        assert_eq!((owners[0].uid.as_str(), owners[0].controller), ("run-uid", Some(true)));
        let labels = metadata.labels.as_ref().expect("labels");
        assert_eq!(labels["embedrun.dev/revision"], revision(&run).as_str());
        assert!(!labels.contains_key("argocd.argoproj.io/instance"), "labels of the run are not copied");
    }
}

#[test]
fn the_longest_run_name_leaves_room_for_pod_names() {
    let mut run = run(json!({}));
    run.metadata.name = Some("a".repeat(40));
    let name = |stage: Stage| built(&run, stage).job.metadata.name.expect("a name");
    // The name of a Job is a label of its pods, and the host name of an Indexed Job's pod is the name with the index.
    for (stage, suffix) in [(Stage::Plan, ""), (Stage::Embed, "-99999"), (Stage::Finalize, "")] {
        assert!(name(stage).len() + suffix.len() <= 63, "{}", name(stage));
    }
}

#[test]
fn the_configuration_is_immutable_and_the_runner_can_read_it() {
    let config = built(&run(json!({})), Stage::Plan).config;
    assert_eq!(config.immutable, Some(true));
    let text = &config.data.expect("data")["run.json"];
    let config: RunnerConfig = serde_json::from_str(text).expect("a configuration");
    assert_eq!(config.collections[0].source.path, "/embedrun/volumes/source-0/handbook");
    assert_eq!(config.collections[0].source.uri, "pvc://chunks/handbook");
    assert_eq!(config.dense[1].source.path, "/models/bge");
    assert_eq!(config.output.uri, "pvc://vectors/out");
    // What the runner claims the output with.
    assert_eq!((config.run.to_string().as_str(), config.run.uid.as_str()), ("search/demo", "run-uid"));
    assert!(config.identity_sha256.starts_with(config.revision.as_str()) && config.identity_sha256.len() == 64);
}

#[test]
fn a_revision_of_an_earlier_release_is_continued_under_its_short_form() {
    let mut run = run(json!({}));
    let short = revision(&run).short().to_owned();
    run.status = Some(EmbeddingRunStatus { revision: Some(short.clone()), ..EmbeddingRunStatus::default() });
    let children = built(&run, Stage::Embed);
    assert_eq!(children.job.metadata.labels.expect("labels")["embedrun.dev/revision"], short);
    let config: RunnerConfig =
        serde_json::from_str(&children.config.data.expect("data")["run.json"]).expect("a config");
    assert_eq!(config.revision.as_str(), short);
    assert_eq!(config.identity_sha256.len(), 64);
}

#[test]
fn an_execution_field_changes_arguments_and_not_the_configuration() {
    let (one, two) = (run(json!({})), run(json!({"execution": {"shardSize": 99}, "gpu": {"required": false}})));
    assert_eq!(built(&one, Stage::Plan).config, built(&two, Stage::Plan).config);
    assert!(container(&two, Stage::Plan).args.expect("arguments").ends_with(&["--shard-size".into(), "99".into()]));
    let embed = container(&two, Stage::Embed).args.expect("arguments");
    assert!(embed.ends_with(&["--gpu-count".into(), "1".into(), "--gpu-required".into(), "false".into()]), "{embed:?}");
}

#[test]
fn the_memory_ceiling_is_an_argument_of_the_pods_that_run_a_model() {
    let gpu = json!({"memoryCeiling": "20Gi", "required": false});
    let reranker = json!({"reranker": {"name": "ce", "source": "pvc://models/ce"}});
    let (plain, reranking) = (run(json!({"gpu": gpu})), run(json!({"gpu": gpu, "models": reranker})));
    let ceiling = |run: &EmbeddingRun, stage| {
        let arguments = container(run, stage).args.expect("arguments");
        let at = arguments.iter().position(|argument| argument == "--gpu-memory-ceiling")?;
        arguments.get(at + 1).cloned()
    };
    for (run, finalize) in [(&plain, None), (&reranking, Some("20Gi"))] {
        let found = [Stage::Plan, Stage::Embed, Stage::Finalize].map(|stage| ceiling(run, stage));
        assert_eq!(found, [None, Some("20Gi".into()), finalize.map(Into::into)]);
    }
    assert_eq!(ceiling(&run(json!({})), Stage::Embed), None, "the runner applies the default");
    assert_eq!(
        built(&plain, Stage::Embed).config,
        built(&run(json!({})), Stage::Embed).config,
        "it is not an identity field"
    );
}

#[test]
fn the_finalize_pod_gets_one_accelerator_if_it_reranks() {
    let gpus_of = |gpu: serde_json::Value, toggle: serde_json::Value| {
        let run = run(json!({
            "models": {"reranker": {"name": "ce", "source": "pvc://models/ce"}},
            "toggles": {"rerank": toggle}, "gpu": gpu
        }));
        let pod = pod(&run, Stage::Finalize);
        let container = &pod.containers[0];
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let count = limits.map(|limits| limits["nvidia.com/gpu"].0.clone());
        assert_eq!(count.is_some(), pod.tolerations.is_some(), "a pod with a GPU tolerates its taint");
        let arguments = container.args.clone().expect("arguments");
        let at = arguments.iter().position(|argument| argument == "--gpu-count");
        (count, at.map(|at| arguments[at + 1].clone()))
    };
    let one = || Some("1".to_owned());
    assert_eq!(gpus_of(json!({"count": 4}), json!(null)), (one(), one()));
    assert_eq!(gpus_of(json!({"count": 1}), json!(true)), (one(), one()));
    assert_eq!(gpus_of(json!({"count": 0}), json!(true)), (None, Some("0".into())));
    assert_eq!(gpus_of(json!({"count": 4}), json!(false)), (None, None));
}

#[test]
fn pods_without_a_model_get_no_accelerator() {
    let run = run(json!({"gpu": {
        "resourceName": "amd.com/gpu", "count": 2, "nodeSelector": {"card": "mi300"},
        "tolerations": [{"key": "batch", "operator": "Exists"}]
    }}));
    let embed = pod(&run, Stage::Embed);
    let limits =
        embed.containers[0].resources.as_ref().and_then(|resources| resources.limits.as_ref()).expect("limits");
    assert_eq!(limits["amd.com/gpu"].0, "2");
    assert_eq!(embed.node_selector.expect("a selector")["card"], "mi300");
    let keys: Vec<_> =
        embed.tolerations.expect("tolerations").into_iter().filter_map(|toleration| toleration.key).collect();
    assert_eq!(keys, ["amd.com/gpu", "batch"]);
    for stage in [Stage::Plan, Stage::Finalize] {
        let pod = pod(&run, stage);
        assert_eq!((pod.node_selector, pod.tolerations), (None, None), "{stage}");
        assert_eq!(pod.containers[0].resources, None, "{stage}");
    }
}

#[test]
fn a_run_on_the_cpu_requests_no_accelerator() {
    assert_eq!(container(&run(json!({"gpu": {"count": 0}})), Stage::Embed).resources, None);
}

#[test]
fn only_pods_with_an_accelerator_get_the_image_with_cuda() {
    let (cpu, cuda) = ("registry.test/runner:1", "registry.test/runner-cuda:1");
    let image = |run: &EmbeddingRun, stage, settings: &Settings| {
        let job = build(run, Step { stage, completions: 3, chunks: 25 }, settings).expect("children").job;
        job.spec.and_then(|spec| spec.template.spec?.containers.into_iter().next()?.image).expect("an image")
    };
    let on_gpus = run(json!({"gpu": {"resourceName": "example.com/gpu", "count": 1}}));
    assert_eq!(image(&on_gpus, Stage::Plan, &settings()), cpu);
    assert_eq!(image(&on_gpus, Stage::Embed, &settings()), cuda);
    for stage in [Stage::Plan, Stage::Embed, Stage::Finalize] {
        // Derived from the limits, so that it also covers a stage that gets an accelerator later.
        let has_accelerator =
            container(&on_gpus, stage).resources.and_then(|all| all.limits).is_some_and(|limits| !limits.is_empty());
        assert_eq!(image(&on_gpus, stage, &settings()), if has_accelerator { cuda } else { cpu }, "{stage}");
        let without = run(json!({"gpu": {"count": 0}}));
        assert_eq!(image(&without, stage, &settings()), cpu, "{stage}");
        let one_image = Settings { runner_cuda_image: None, ..settings() };
        assert_eq!(image(&on_gpus, stage, &one_image), cpu, "{stage}");
        let own = run(json!({"execution": {"runnerImage": "registry.test/own:2"}}));
        assert_eq!(image(&own, stage, &settings()), "registry.test/own:2", "{stage}");
    }
}

#[test]
fn pods_meet_the_restricted_standard_and_hold_no_credentials() {
    for stage in [Stage::Plan, Stage::Embed, Stage::Finalize] {
        let pod = pod(&run(json!({})), stage);
        assert_eq!(pod.automount_service_account_token, Some(false));
        let context = pod.security_context.expect("a context");
        assert_eq!(context.run_as_non_root, Some(true));
        assert_eq!(context.seccomp_profile.expect("a profile").type_, "RuntimeDefault");
        let context = pod.containers[0].security_context.clone().expect("a context");
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.capabilities.and_then(|all| all.drop), Some(vec!["ALL".to_owned()]));
    }
}

#[test]
fn a_stage_gets_only_the_volumes_that_it_uses() {
    let names = |stage| -> Vec<String> {
        pod(&run(json!({})), stage).volumes.expect("volumes").into_iter().map(|volume| volume.name).collect()
    };
    assert_eq!(names(Stage::Plan), ["config", "tmp", "source-0", "source-1", "dense-0", "output"]);
    assert_eq!(names(Stage::Embed), ["config", "tmp", "source-0", "source-1", "dense-0", "output"]);
    assert_eq!(names(Stage::Finalize), ["config", "tmp", "output"]);
    let writable: Vec<String> = container(&run(json!({})), Stage::Embed)
        .volume_mounts
        .expect("mounts")
        .into_iter()
        .filter(|mount| mount.read_only != Some(true))
        .map(|mount| mount.name)
        .collect();
    assert_eq!(writable, ["tmp", "output"]);
}

/// A run with a model of every kind and queries.
fn retrieval() -> EmbeddingRun {
    run(json!({
        "models": {
            "sparse": [{"name": "splade", "source": "pvc://models/splade"}],
            "reranker": {"name": "ce", "source": "pvc://rerankers/ce"}
        },
        "rerank": {"queries": {"configMap": {"name": "questions", "key": "q.jsonl"}}}
    }))
}

#[test]
fn sparse_models_reranker_and_queries_are_mounted_in_the_stages_that_use_them() {
    let run = retrieval();
    let names = |stage| -> Vec<String> {
        pod(&run, stage).volumes.expect("volumes").into_iter().map(|volume| volume.name).collect()
    };
    // The plan opens every model.
    assert_eq!(
        names(Stage::Plan),
        ["config", "tmp", "source-0", "source-1", "dense-0", "sparse-0", "reranker", "queries", "output"]
    );
    assert_eq!(
        names(Stage::Embed),
        ["config", "tmp", "source-0", "source-1", "dense-0", "sparse-0", "queries", "output"]
    );
    assert_eq!(names(Stage::Finalize), ["config", "tmp", "reranker", "queries", "output"]);
}

#[test]
fn queries_are_mounted_read_only() {
    let run = retrieval();
    let volumes = pod(&run, Stage::Finalize).volumes.expect("volumes");
    let queries = volumes.into_iter().find(|volume| volume.name == "queries").expect("a volume");
    assert_eq!(queries.config_map.expect("a ConfigMap").name, "questions");
    let mounts = container(&run, Stage::Finalize).volume_mounts.expect("mounts");
    for name in ["queries", "reranker"] {
        let mount = mounts.iter().find(|mount| mount.name == name).expect(name);
        assert_eq!((mount.read_only, mount.mount_path.clone()), (Some(true), format!("/embedrun/volumes/{name}")));
    }
    let config = built(&run, Stage::Plan).config.data.expect("data")["run.json"].clone();
    let config: RunnerConfig = serde_json::from_str(&config).expect("a configuration");
    let queries = config.rerank.and_then(|rerank| rerank.queries).expect("queries");
    assert_eq!(queries.path, "/embedrun/volumes/queries/q.jsonl");
    assert_eq!(config.reranker.expect("a reranker").source.path, "/embedrun/volumes/reranker/ce");
    assert_eq!(config.sparse[0].source.path, "/embedrun/volumes/sparse-0/splade");
}

#[test]
fn a_hub_reranker_is_opened_by_the_plan_pod_and_fetched_by_the_finalize_pod() {
    let reranker = json!({"reranker": {"name": "ce", "source": "hf://cross-encoder/ms-marco-MiniLM-L12-v2@main"}});
    let run = run(json!({"models": reranker}));
    let has_home = |stage| {
        let env = container(&run, stage).env.expect("variables");
        env.iter().any(|variable| variable.name == "HF_HOME")
    };
    assert_eq!([Stage::Plan, Stage::Embed, Stage::Finalize].map(has_home), [true, false, true]);
}

#[test]
fn a_hub_model_is_fetched_to_a_volume_of_the_embed_pods() {
    let models = json!({"dense": [{"name": "minilm", "source": "hf://sentence-transformers/all-MiniLM-L6-v2@main"}]});
    let run = run(json!({"models": models, "template": {"spec": {"containers": [{
        "name": "runner",
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}]
    }]}}}));
    let config = built(&run, Stage::Plan).config.data.expect("data")["run.json"].clone();
    let config: RunnerConfig = serde_json::from_str(&config).expect("a configuration");
    assert_eq!(config.dense[0].source.uri, "hf://sentence-transformers/all-MiniLM-L6-v2@main");
    assert_eq!(config.dense[0].source.path, "");
    let home = |stage| {
        let container = container(&run, stage);
        let env = container.env.expect("variables");
        assert!(env.iter().any(|variable| variable.name == "HF_TOKEN" && variable.value_from.is_some()), "{stage}");
        let home = env.into_iter().find(|variable| variable.name == "HF_HOME")?.value?;
        let mount = container.volume_mounts.expect("mounts").into_iter().find(|mount| mount.mount_path == home);
        Some(mount.expect("a mount"))
    };
    let mount = home(Stage::Embed).expect("HF_HOME");
    assert_eq!(mount.read_only, None);
    let volumes = pod(&run, Stage::Embed).volumes.expect("volumes");
    let volume = volumes.into_iter().find(|volume| volume.name == mount.name).expect("a volume");
    assert!(volume.empty_dir.is_some());
    assert!(home(Stage::Plan).is_some(), "the plan fetches the settings");
    assert_eq!(home(Stage::Finalize), None);
}

/// The stages whose pods have the token of the hub.
fn stages_with_token(models: serde_json::Value) -> Vec<Stage> {
    let hub = json!({"tokenSecretRef": {"name": "hub", "key": "read-only"}});
    let run = run(json!({"models": models, "hub": hub}));
    let has_token = |stage: &Stage| {
        let container = container(&run, *stage);
        let variables = container.env.expect("variables");
        let variable = variables.into_iter().find(|variable| variable.name == "EMBEDRUN_HUB_TOKEN_FILE");
        let mounts = container.volume_mounts.expect("mounts");
        let mount = mounts.into_iter().find(|mount| mount.name == "hub-token");
        let volumes = pod(&run, *stage).volumes.expect("volumes");
        let secret = volumes.into_iter().find_map(|volume| volume.secret);
        let (Some(variable), Some(mount), Some(secret)) = (&variable, &mount, &secret) else {
            assert!(variable.is_none() && mount.is_none() && secret.is_none(), "{stage}: all or nothing");
            return false;
        };
        let item = &secret.items.as_ref().expect("items")[0];
        assert_eq!((secret.secret_name.as_deref(), item.key.as_str()), (Some("hub"), "read-only"));
        assert_eq!((secret.default_mode, mount.read_only), (Some(0o400), Some(true)));
        assert_eq!(variable.value.as_deref(), Some(format!("{}/{}", mount.mount_path, item.path).as_str()));
        true
    };
    [Stage::Plan, Stage::Embed, Stage::Finalize].into_iter().filter(has_token).collect()
}

#[test]
fn the_token_of_the_hub_is_a_file_of_the_pods_that_ask_the_hub() {
    let (hub, claim) = ("hf://o/m@main", "pvc://models/m");
    let dense = |source: &str| json!([{"name": "d", "source": source}]);
    let with_reranker =
        |source: &str, reranker: &str| json!({"dense": dense(source), "reranker": {"name": "r", "source": reranker}});
    assert_eq!(stages_with_token(json!({"dense": dense(hub)})), [Stage::Plan, Stage::Embed]);
    assert_eq!(stages_with_token(with_reranker(claim, hub)), [Stage::Plan, Stage::Finalize]);
    assert_eq!(stages_with_token(with_reranker(hub, hub)), [Stage::Plan, Stage::Embed, Stage::Finalize]);
    assert_eq!(stages_with_token(with_reranker(claim, claim)), []);
}

#[test]
fn the_embed_job_is_indexed_and_never_wider_than_its_shards() {
    let run = run(json!({"execution": {"parallelism": 8, "backoffLimitPerIndex": 2, "maxFailedIndexes": 1}}));
    let spec = built(&run, Stage::Embed).job.spec.expect("a spec");
    assert_eq!(spec.completion_mode.as_deref(), Some("Indexed"));
    assert_eq!((spec.completions, spec.parallelism), (Some(3), Some(3)));
    assert_eq!((spec.backoff_limit_per_index, spec.max_failed_indexes), (Some(2), Some(1)));
    assert_eq!(spec.pod_replacement_policy.as_deref(), Some("Failed"));
    assert_eq!(spec.ttl_seconds_after_finished, None, "a result that is not recorded must not expire");
}

#[test]
fn exit_codes_are_wired_to_the_failure_policy() {
    let rules = |stage| -> Vec<(String, Vec<i32>)> {
        let policy = built(&run(json!({})), stage).job.spec.and_then(|spec| spec.pod_failure_policy).expect("a policy");
        policy
            .rules
            .into_iter()
            .map(|rule| (rule.action, rule.on_exit_codes.map(|codes| codes.values).unwrap_or_default()))
            .collect()
    };
    let rule = |action: &str, codes: &[i32]| (action.to_owned(), codes.to_vec());
    assert_eq!(rules(Stage::Embed), [rule("Ignore", &[]), rule("FailJob", &[2]), rule("FailIndex", &[3, 4])]);
    assert_eq!(rules(Stage::Plan), [rule("Ignore", &[]), rule("FailJob", &[2, 3, 4])]);
}

#[test]
fn an_override_is_merged_by_container_name_and_cannot_change_invariants() {
    let run = run(json!({"template": {
        "metadata": {"labels": {"team": "search", "embedrun.dev/revision": "forged"}},
        "spec": {
            "automountServiceAccountToken": true,
            "restartPolicy": "OnFailure",
            "priorityClassName": "batch",
            "containers": [{"name": "runner", "resources": {"limits": {"memory": "8Gi"}}}]
        }
    }}));
    let template = built(&run, Stage::Embed).job.spec.expect("a spec").template;
    let labels = template.metadata.and_then(|metadata| metadata.labels).expect("labels");
    assert_eq!(
        (labels["team"].as_str(), labels["embedrun.dev/revision"].as_str()),
        ("search", revision(&run).as_str())
    );
    let pod = template.spec.expect("a pod");
    assert_eq!((pod.automount_service_account_token, pod.restart_policy.as_deref()), (Some(false), Some("Never")));
    assert_eq!(pod.priority_class_name.as_deref(), Some("batch"));
    assert_eq!(pod.containers.len(), 1);
    let limits = pod.containers[0].resources.as_ref().and_then(|resources| resources.limits.as_ref()).expect("limits");
    assert_eq!((limits["memory"].0.as_str(), limits["nvidia.com/gpu"].0.as_str()), ("8Gi", "1"));
}
