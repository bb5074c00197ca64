//! Prompts, widths, types and stored forms of vectors, from the manifest to the columns.

use std::{fs, path::Path};

use arrow_array::{
    Array, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, cast::AsArray,
};
use crds::contract::FailureReason;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    common::DIMENSIONS,
    stages::decoded,
    world::{World, json},
};

/// A manifest with these dense models, each a flow mapping without its source.
fn world(models: &[&str]) -> World {
    let world = World::new();
    world.ten_chunks();
    let root = world.path("");
    let root = root.display();
    let models: Vec<String> =
        models.iter().map(|model| format!("      - {{source: \"file://{root}/model\", {model}}}\n")).collect();
    world.manifest_text(&format!(
        "apiVersion: embedrun.dev/v1alpha1\nkind: EmbeddingRun\nmetadata: {{name: handbook}}\nspec:\n  collections:\n    \
         - {{name: docs, source: {{hostPath: {{path: {root}/source}}}}}}\n  models:\n    dense:\n{}  \
         output: {{hostPath: {{path: {root}/out}}}}\n  gpu: {{count: 0}}\n",
        models.concat()
    ));
    world
}

fn batch(world: &World) -> RecordBatch {
    let summary = json(&world.revision().join("docs/processing_summary.json"));
    let file = summary["export_run"]["files"][0]["path"].as_str().expect("a file").to_owned();
    let file = fs::File::open(world.path("out").join(Path::new(&file))).expect("a Parquet file");
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
    batches.next().expect("a batch").expect("a batch")
}

/// The values of a vector column, row after row.
fn column<T: Array + Clone + 'static>(batch: &RecordBatch, name: &str) -> (usize, T) {
    let list: &FixedSizeListArray = batch.column_by_name(name).expect(name).as_fixed_size_list();
    let values = list.values().as_any().downcast_ref::<T>().expect("values of that type");
    (list.value_length() as usize, values.clone())
}

/// The bytes of a vector column, row after row, and the bytes of a row.
fn bytes(batch: &RecordBatch, name: &str) -> (usize, Vec<u8>) {
    let column: &FixedSizeBinaryArray = batch.column_by_name(name).expect(name).as_fixed_size_binary();
    (column.value_length() as usize, column.iter().flatten().flatten().copied().collect())
}

/// The first `width` values of each row, of length 1.
fn cut(vectors: &Float32Array, width: usize) -> Vec<f32> {
    let rows = vectors.values().chunks(DIMENSIONS);
    rows.flat_map(|row| {
        let length = row[..width].iter().map(|value| value * value).sum::<f32>().sqrt();
        row[..width].iter().map(move |value| value / length)
    })
    .collect()
}

#[test]
fn every_stored_form_holds_the_vectors() {
    let world = world(&[
        "name: full",
        "name: half, precision: F16",
        "name: short, dimensions: 8",
        "name: eight, dimensions: 8, precision: Int8",
        "name: signs, precision: Binary",
        "name: rounded, dtype: BF16",
        "name: quantised, dtype: Int8",
    ]);
    world.run(&[]).succeeded();
    let batch = batch(&world);
    let (width, full) = column::<Float32Array>(&batch, "full");
    assert_eq!(width, DIMENSIONS);

    let (_, half) = column::<Float16Array>(&batch, "half");
    let off = |(a, b): (&f32, f32)| (a - b).abs();
    assert!(full.values().iter().zip(half.values().iter().map(|value| value.to_f32())).map(off).all(|off| off < 1e-3));

    let (width, short) = column::<Float32Array>(&batch, "short");
    assert_eq!(width, 8);
    assert!(short.values().iter().zip(cut(&full, 8)).map(off).all(|off| off < 1e-6));

    let (width, eight) = bytes(&batch, "eight");
    let scales: &Float32Array = batch.column_by_name("eight_scale").expect("scales").as_primitive();
    assert_eq!((width, scales.len()), (8, batch.num_rows()));
    let restored: Vec<f32> =
        eight.iter().enumerate().map(|(at, byte)| f32::from(byte.cast_signed()) * scales.value(at / 8)).collect();
    assert_eq!(restored.len(), short.len());
    assert!(short.values().iter().zip(restored).map(off).all(|off| off < 0.005));

    let (width, signs) = bytes(&batch, "signs");
    assert_eq!(width, DIMENSIONS / 8);
    for (at, value) in full.values().iter().enumerate() {
        assert_eq!(signs[at / 8] >> (7 - at % 8) & 1 == 1, *value > 0.0, "value {at}");
    }

    for name in ["rounded", "quantised"] {
        let (_, near) = column::<Float32Array>(&batch, name);
        let differences: Vec<f32> = full.values().iter().zip(near.values().iter().copied()).map(off).collect();
        assert!(differences.iter().all(|off| *off < 0.05) && differences.iter().any(|off| *off > 1e-6), "{name}");
    }

    let summary = json(&world.revision().join("docs/processing_summary.json"));
    let passes = summary["dense_run"]["passes"].as_array().expect("passes");
    let said = |field: &str| -> Vec<String> { passes.iter().map(|pass| pass[field].to_string()).collect() };
    assert_eq!(
        said("precision"),
        ["F32", "F16", "F32", "Int8", "Binary", "F32", "F32"].map(|name| format!("{name:?}"))
    );
    assert_eq!(said("dimensions"), ["16", "16", "8", "8", "16", "16", "16"]);
    assert_eq!((&passes[5]["dtype"], &passes[6]["dtype"]), (&"BF16".into(), &"Int8".into()));
    assert!(passes[3]["quantization"].as_str().is_some_and(|how| how.contains("127")), "{}", passes[3]);
}

#[test]
fn a_prompt_precedes_every_chunk_and_is_recorded() {
    let world = world(&["name: bare", "name: prompted, prompts: {document: \"zz \", query: \"\"}"]);
    world.run(&[]).succeeded();
    let batch = batch(&world);
    let (_, bare) = column::<Float32Array>(&batch, "bare");
    let (_, prompted) = column::<Float32Array>(&batch, "prompted");
    assert_ne!(bare.values(), prompted.values());
    let summary = json(&world.revision().join("docs/processing_summary.json"));
    let passes = &summary["dense_run"]["passes"];
    assert_eq!((&passes[0]["document_prompt"], &passes[1]["document_prompt"]), (&().into(), &"zz ".into()));
    // Two more tokens in each chunk.
    let count = |pass: usize, field: &str| passes[pass][field].as_u64().expect("a count");
    let tokens = |pass: usize| count(pass, "tokens") + count(pass, "tokens_lost");
    assert_eq!(tokens(1) - tokens(0), 2 * 10);
}

#[test]
fn an_impossible_width_is_rejected() {
    for (model, named) in [
        ("name: wide, dimensions: 17", ["model wide", "dimensions is 17", "have 16"]),
        ("name: odd, dimensions: 12, precision: Binary", ["model odd", "Binary", "have 12"]),
    ] {
        let world = world(&[model]);
        let failure = world.run(&[]).failed(2, FailureReason::InvalidConfiguration);
        for part in named {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        assert!(world.files().keys().all(|file| !file.ends_with(".parquet")), "nothing is exported");
    }
}

#[test]
fn the_scale_column_of_one_model_cannot_be_another_model() {
    let world = world(&["name: a, precision: Int8", "name: a_scale"]);
    let failure = world.run(&[]).failed(2, FailureReason::InvalidConfiguration);
    assert!(failure.message.contains("scale column"), "{}", failure.message);
}

#[test]
fn the_fused_vector_has_the_finest_precision_of_its_models() {
    for (models, precision, width) in [
        (["name: a, precision: Int8", "name: b, dimensions: 8, precision: Int8"], "Int8", 24),
        (["name: a, precision: Binary", "name: b, dimensions: 8, precision: Binary"], "Binary", 24),
        (["name: a, precision: F16", "name: b, precision: Binary"], "F16", 32),
        (["name: a, precision: Int8", "name: b"], "F32", 32),
    ] {
        let world = world(&models);
        world.run(&[]).succeeded();
        let fused = decoded(&world, "fused", precision);
        assert_eq!((fused.len(), fused[0].len()), (10, width), "{models:?}");
        let summary = json(&world.revision().join("docs/processing_summary.json"));
        assert_eq!(summary["fusion_run"]["precision"], precision, "{models:?}");
        // The fused vector is made of the vectors before they are rounded, so both agree up to the coarser of the two.
        let first = decoded(&world, "a", models[0].rsplit(' ').next().expect("a precision"));
        for (row, fused) in first.iter().zip(&fused) {
            let length = |row: &[f64]| row.iter().map(|value| value * value).sum::<f64>().sqrt();
            let dot: f64 = row.iter().zip(fused).map(|(left, right)| left * right).sum();
            let cosine = dot / (length(row) * length(&fused[..row.len()]));
            assert!(cosine > 0.999 || models[1].contains("Binary") || cosine > 0.99, "{models:?}: {cosine}");
        }
    }
}

#[test]
fn a_value_that_a_half_float_cannot_hold_is_an_error_that_names_chunk_and_remedy() {
    let world = world(&["name: half, precision: F16"]);
    // Without the normalisation, and with a projection that makes vectors long.
    let modules = json(&world.path("model/modules.json"));
    let modules: Vec<serde_json::Value> = modules.as_array().expect("modules")[..2].to_vec();
    fs::write(world.path("model/modules.json"), serde_json::json!(modules).to_string()).expect("written");
    scale_norm(&world.path("model/model.safetensors"), 1e5);
    let failure = world.run(&[]).failed(3, FailureReason::InvalidVector);
    for part in ["model half", "chunk ", "precision F16 cannot store", "precision to F32"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    assert!(world.files().keys().all(|file| !file.ends_with(".parquet")), "nothing is exported");
}

/// Multiplies the weights of the last layer norm.
fn scale_norm(file: &Path, factor: f64) {
    let mut tensors = candle_core::safetensors::load(file, &candle_core::Device::Cpu).expect("weights");
    for (name, tensor) in &mut tensors {
        if name.starts_with("encoder.layer.0.output.LayerNorm") {
            *tensor = (&*tensor * factor).expect("scaled");
        }
    }
    candle_core::safetensors::save(&tensors, file).expect("saved");
}
