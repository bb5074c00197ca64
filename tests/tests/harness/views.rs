//! What a container sees: volumes, environment, credentials.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use harness::{Cluster, Image, PodSecurity, Test};
use serde_json::json;

use crate::setup::{CONTAINER, output_of, shell_pod, with};

pub(crate) fn tests() -> Vec<Test> {
    harness::tests![
        a_container_sees_its_volumes,
        a_container_sees_its_environment,
        a_service_account_token_opens_the_api_server,
        an_image_with_a_root_shows_that_root_alone,
    ]
}

async fn a_container_sees_its_volumes(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("volumes", PodSecurity::Restricted).await?;
    let directory = cluster.folder().join("shared-data");
    cluster.volume(&namespace, "data", &directory).await?;
    fs::create_dir_all(directory.join("in"))?;
    fs::write(directory.join("in/chunks"), "the chunks")?;
    cluster
        .kubectl_with_input(
            &["apply", "-n", &namespace, "-f", "-"],
            r#"{"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "immutable": true,
                 "data": {"run.json": "{}", "other": "x"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"},
                 "stringData": {"key": "open sesame"}}
            ]}"#,
        )
        .await?;

    let script = "set -e
        test \"$(ls /config)\" = run.json; test \"$(cat /config/run.json)\" = '{}'
        test \"$(stat -c %a /secret/key)\" = 400; test \"$(cat /secret/key)\" = 'open sesame'
        test \"$(cat /data/chunks)\" = 'the chunks'
        if echo x > /data/chunks; then echo 'a read-only mount was written to'; exit 1; fi
        if touch /anywhere; then echo 'the root file system was written to'; exit 1; fi
        echo vectors > /out/vectors; echo x > /scratch/x
        test \"$(cat /pod/labels)\" = 'app=\"embed\"'
        test -s /pod/token; grep -q CERTIFICATE /pod/ca.crt
        test \"$(id -u)\" = 65532";
    let pod = with(
        shell_pod("reader", script),
        "/spec",
        &json!({"volumes": [
            {"name": "config", "configMap": {"name": "config", "items": [{"key": "run.json", "path": "run.json"}]}},
            {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "pod", "projected": {"sources": [
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt"}},
            ]}},
        ]}),
    );
    let pod = with(
        pod,
        CONTAINER,
        &json!({"volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "data", "mountPath": "/data", "subPath": "in", "readOnly": true},
            {"name": "data", "mountPath": "/out", "subPath": "made/by/kubelet"},
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "pod", "mountPath": "/pod"},
        ]}),
    );
    let pod = with(pod, "/metadata", &json!({"labels": {"app": "embed"}}));
    let pod = with(pod, "/spec/containers/0/securityContext", &json!({"readOnlyRootFilesystem": true}));
    output_of(cluster, &namespace, pod).await?;
    let written = fs::read_to_string(directory.join("made/by/kubelet/vectors"))?;
    assert_eq!(written, "vectors\n");
    Ok(())
}

async fn a_container_sees_its_environment(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("environment", PodSecurity::Restricted).await?;
    cluster.kubectl(&["create", "configmap", "settings", "-n", &namespace, "--from-literal=COLOR=blue"]).await?;
    let pod = with(
        shell_pod("reader", "echo $NODE $POD $CPUS $COLOR $PREFIXED_COLOR $(GREETING) $ABSENT."),
        CONTAINER,
        &json!({
            "envFrom": [{"prefix": "PREFIXED_", "configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "COLOR"}}},
                {"name": "ABSENT", "valueFrom": {
                    "secretKeyRef": {"name": "absent", "key": "key", "optional": true}}},
                {"name": "GREETING", "value": "hello from $(POD)"},
            ],
            "resources": {"limits": {"cpu": "2", "memory": "64Mi"}},
        }),
    );
    let output = output_of(cluster, &namespace, pod).await?;
    assert_eq!(output, "node-1 reader 2 blue blue hello from reader .\n");
    Ok(())
}

async fn a_service_account_token_opens_the_api_server(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("token", PodSecurity::Restricted).await?;
    let script = "exec python3 -c '
import os, ssl, urllib.request
mount = \"/var/run/secrets/kubernetes.io/serviceaccount/\"
host, port = os.environ[\"KUBERNETES_SERVICE_HOST\"], os.environ[\"KUBERNETES_SERVICE_PORT\"]
request = urllib.request.Request(f\"https://{host}:{port}/version\")
request.add_header(\"Authorization\", \"Bearer \" + open(mount + \"token\").read())
print(urllib.request.urlopen(request, context=ssl.create_default_context(cafile=mount + \"ca.crt\")).status)
'";
    let output = output_of(cluster, &namespace, shell_pod("caller", script)).await?;
    assert_eq!(output, "200\n");
    Ok(())
}

async fn an_image_with_a_root_shows_that_root_alone(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("root", PodSecurity::Restricted).await?;
    let root = cluster.folder().join("root");
    // A shell and the libraries that its loader needs, at their paths on this machine.
    let libraries = Command::new("ldd").arg("/bin/sh").output().context("ldd names the libraries of a program")?;
    let libraries = String::from_utf8(libraries.stdout)?;
    for file in libraries.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
        let place = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a folder")?)?;
        fs::copy(file, place)?;
    }
    for folder in ["etc/app", "var/run", "var/spool"] {
        fs::create_dir_all(root.join(folder))?;
    }
    cluster.add_image("example.test/rooted", Image::of_root(&root, "/bin/sh"));

    let script = "set -e
        test ! -e /usr/bin/env; test -d /etc/app; test ! -e /etc/passwd
        test \"$(echo /var/*)\" = '/var/run /var/spool'
        echo x > /var/run/shared/file
        for place in /x /etc/x /var/x /var/run/x /var/spool/x; do
            if (echo x > $place) 2>&-; then echo \"$place was written to\"; exit 1; fi
        done
        echo sealed";
    let pod = with(shell_pod("rooted", script), "/spec", &json!({"volumes": [{"name": "shared", "emptyDir": {}}]}));
    let mounted = json!({"image": "example.test/rooted:v1",
    "volumeMounts": [{"name": "shared", "mountPath": "/var/run/shared"}],
    "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true
    }});
    assert_eq!(output_of(cluster, &namespace, with(pod, CONTAINER, &mounted)).await?, "sealed\n");
    Ok(())
}
