//! What a process says of itself while it runs: metrics to whoever asks, spans to a collector.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message;
use serde_json::Value;

use crate::{
    stages::{Spec, manifest, world},
    world::{BINARY, World},
};

/// A stand-in for a collector: takes what is posted to it and sends the decoded requests on.
fn collector() -> (String, mpsc::Receiver<(String, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(connection);
            // One connection may carry several requests.
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut length = 0;
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).expect("a header");
                    if header.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("protobuf");
                let _ = sender.send((path, request));
                let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                reader.get_mut().write_all(answer).expect("answered");
            }
        }
    });
    (address, requests)
}

#[test]
fn spans_reach_a_collector_as_one_trace() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let (address, requests) = collector();
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries", "--shard-size", "5"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    world.ended(command).succeeded();
    let mut spans: Vec<Span> = Vec::new();
    let mut service = None;
    while let Ok((path, request)) = requests.try_recv() {
        assert_eq!(path, "/v1/traces");
        for resource in request.resource_spans {
            let attributes = resource.resource.iter().flat_map(|resource| &resource.attributes);
            service = attributes
                .filter(|attribute| attribute.key == "service.name")
                .map(|found| format!("{:?}", found.value))
                .next();
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    assert!(service.is_some_and(|name| name.contains("embedrun")));
    let mut names = BTreeMap::<&str, usize>::new();
    for span in &spans {
        *names.entry(&span.name).or_default() += 1;
    }
    let expected = [
        ("rag.dense", 4),
        ("rag.export", 2),
        ("rag.fusion", 2),
        ("rag.plan", 1),
        ("rag.rerank", 1),
        ("rag.retrieve", 2),
        ("rag.run", 1),
        ("rag.sparse", 2),
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    let root = spans.iter().find(|span| span.name == "rag.run").expect("a root");
    assert!(
        spans.iter().all(|span| span.trace_id == root.trace_id && span.end_time_unix_nano >= span.start_time_unix_nano)
    );
    let dense = spans.iter().find(|span| span.name == "rag.dense").expect("a pass");
    assert_eq!(dense.parent_span_id, root.span_id);
    assert!(dense.attributes.iter().any(|attribute| attribute.key == "model"), "{:?}", dense.attributes);
}

#[test]
fn a_missing_collector_does_not_fail_the_run() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    world.ended(command).succeeded();
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "no url");
    let ended = world.ended(command);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{}", ended.stderr);
}

/// Runs the manifest of a world; the answer is all that `/metrics` said meanwhile.
fn scraped(world: &World) -> String {
    let mut child = Command::new(BINARY)
        .args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries", "--shard-size", "20"])
        .args(["--metrics-listen", "127.0.0.1:0"])
        .env("EMBEDRUN_LOG_FORMAT", "json")
        .current_dir(world.path(""))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut log = BufReader::new(child.stderr.take().expect("a log")).lines();
    let address = log
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| serde_json::from_str::<Value>(&line).ok()?["address"].as_str().map(ToOwned::to_owned))
        .expect("an address");
    let reader = thread::spawn(move || log.map_while(Result::ok).count());
    let scrape = || -> Option<String> {
        let mut connection = TcpStream::connect(&address).ok()?;
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        connection.read_to_string(&mut text).ok()?;
        Some(text)
    };
    // The last answer may be cut off by the end of the process.
    let mut seen = String::new();
    while let Some(text) = scrape() {
        seen.push_str(&text);
    }
    assert!(child.wait().expect("ended").success());
    reader.join().expect("the log was read");
    seen
}

/// Four hundred more chunks, so that a run takes a while.
fn many_chunks(world: &World) {
    let lines: Vec<String> =
        (0..400).map(|n| format!(r#"{{"id": "m-{n}", "text": "two words and {n} more"}}"#)).collect();
    world.source("m.jsonl", &lines.join("\n"));
}

#[test]
fn every_metric_is_there_while_a_run_is_at_work() {
    let (world, spec) = world();
    many_chunks(&world);
    manifest(&world, &spec);
    let seen = scraped(&world);
    for name in [
        "rag_dense_latency_seconds_bucket{device=\"cpu\",model=\"tiny\",stage=\"dense\"",
        "rag_sparse_latency_seconds_count",
        "rag_export_latency_seconds_sum",
        "rag_gpu_peak_bytes{device=\"cpu\"}",
        "rag_sparse_coverage_ratio 1",
        "rag_export_total_bytes",
        "rerank_fallback_total{reason=\"NoQueries\",source=\"input\"} 0",
        "sparse_fallback_total{reason=\"OutOfMemory\",source=\"runtime\"} 0",
        "dense_fallback_total",
        "device_fallback_total",
        "rag_tokens_total{model=\"other\",stage=\"dense\"}",
        "rag_chunks_total",
        "rag_truncated_chunks_total",
    ] {
        assert!(seen.contains(name), "{name} is not in\n{seen}");
    }
}

#[test]
fn fallbacks_are_counted_where_they_happen() {
    let (world, spec) = world();
    many_chunks(&world);
    fs::remove_file(world.path("sparse/model.safetensors")).expect("removed");
    let dense = spec.dense.replace("/other\"", "/nowhere\", optional: true");
    let sparse = spec.sparse.replace("topK", "optional: true, topK");
    manifest(&world, &Spec { dense, sparse, ..spec });
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.manifest_text(&text.replace("gpu: {count: 0}", "gpu: {required: false}"));
    let seen = scraped(&world);
    for name in [
        "dense_fallback_total{reason=\"ModelUnavailable\",source=\"load\"} 2",
        "sparse_fallback_total{reason=\"ModelUnavailable\",source=\"load\"} 20",
        "device_fallback_total{reason=\"DeviceFallback\",source=\"load\"} 2",
        "rag_sparse_coverage_ratio 0",
    ] {
        assert!(seen.contains(name), "{name} is not in\n{}", &seen[seen.len().saturating_sub(6000)..]);
    }
}
