//! What a dense model loses with weights in 8-bit integers: the cosine between its vectors and those of 32-bit floats,
//! how many of the nearest documents of a query stay, and how often the relevant one is found. Prints one JSON line.
//!
//! Documents are JSON lines of `{"id", "text"}`, queries of `{"text", "relevant"}`, a list of ids. The documents are the
//! relevant ones and others, evenly spread over the file.

use std::{
    collections::HashSet, convert::Infallible, error::Error, fs, num::NonZeroUsize, path::PathBuf, sync::Arc, thread,
};

use candle_core::Device;
use clap::Parser;
use crds::v1alpha1::Dtype;
use runner::{
    device::memory::Memory,
    model::{DenseEncoder, DenseOptions},
    pass::{PassOptions, Replica, batching::TokenBudget, run},
    vectors::Rows,
};
use serde::{Deserialize, de::DeserializeOwned};

/// The nearest documents that are compared.
const NEAREST: usize = 10;

#[derive(Parser)]
struct Args {
    /// The model folder.
    #[arg(long)]
    model: PathBuf,
    /// The documents.
    #[arg(long)]
    documents: PathBuf,
    /// The queries.
    #[arg(long)]
    queries: PathBuf,
    /// How many documents, the relevant ones among them.
    #[arg(long, default_value_t = 2000)]
    document_count: usize,
    /// How many of the first queries.
    #[arg(long, default_value_t = 200)]
    query_count: usize,
}

#[derive(Deserialize)]
struct Document {
    id: String,
    text: String,
}

#[derive(Deserialize)]
struct Query {
    text: String,
    relevant: HashSet<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut queries: Vec<Query> = lines(&args.queries)?;
    queries.truncate(args.query_count);
    let (relevant, others): (Vec<Document>, Vec<Document>) = lines::<Document>(&args.documents)?
        .into_iter()
        .partition(|document| queries.iter().any(|query| query.relevant.contains(&document.id)));
    let others_count = args.document_count.saturating_sub(relevant.len()).max(1);
    let spread = others.len().div_ceil(others_count).max(1);
    let documents: Vec<Document> = relevant.into_iter().chain(others.into_iter().step_by(spread)).collect();

    let document_texts: Vec<&str> = documents.iter().map(|document| &document.text[..]).collect();
    let query_texts: Vec<&str> = queries.iter().map(|query| &query.text[..]).collect();
    let vectors = |dtype| -> Result<[Rows; 2], Box<dyn Error>> {
        let options = DenseOptions { dtype: Some(dtype), ..DenseOptions::default() };
        let model = DenseEncoder::load("model", &args.model, &options, &Device::Cpu)?;
        Ok([embedded(&model, &document_texts)?, embedded(&model, &query_texts)?])
    };
    let (floats, int8) = (vectors(Dtype::F32)?, vectors(Dtype::Int8)?);

    let mut cosines: Vec<f32> = floats
        .iter()
        .zip(&int8)
        .flat_map(|(one, other)| one.iter().zip(other.iter()))
        .map(|(one, other)| dot(one, other))
        .collect();
    cosines.sort_by(f32::total_cmp);
    let nearest = |[documents, queries]: &[Rows; 2]| -> Vec<Vec<usize>> {
        queries.iter().map(|query| nearest(documents, query)).collect()
    };
    let (by_floats, by_int8) = (nearest(&floats), nearest(&int8));
    let same = |count: usize| -> f64 {
        let kept = |(one, other): (&Vec<usize>, &Vec<usize>)| {
            one[..count].iter().filter(|document| other[..count].contains(document)).count()
        };
        by_floats.iter().zip(&by_int8).map(kept).sum::<usize>() as f64 / (count * queries.len()) as f64
    };
    let recall = |found: &[Vec<usize>], count: usize| -> f64 {
        let hit = |(query, found): &(&Query, &Vec<usize>)| {
            found[..count].iter().any(|document| query.relevant.contains(&documents[*document].id))
        };
        queries.iter().zip(found).filter(hit).count() as f64 / queries.len() as f64
    };
    println!(
        "{}",
        serde_json::json!({
            "documents": documents.len(), "queries": queries.len(),
            "cosine_mean": cosines.iter().sum::<f32>() / cosines.len() as f32, "cosine_worst": cosines[0],
            "cosine_first_percentile": cosines[cosines.len() / 100],
            "same_first": same(1), "same_nearest": same(NEAREST),
            "recall_1": [recall(&by_floats, 1), recall(&by_int8, 1)],
            "recall_nearest": [recall(&by_floats, NEAREST), recall(&by_int8, NEAREST)],
        })
    );
    Ok(())
}

fn lines<T: DeserializeOwned>(path: &PathBuf) -> Result<Vec<T>, Box<dyn Error>> {
    Ok(fs::read_to_string(path)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// A vector of length 1 for each text.
fn embedded(model: &DenseEncoder, texts: &[&str]) -> Result<Rows, Box<dyn Error>> {
    let options = PassOptions {
        window: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
        batch: TokenBudget(1024),
        tokenizer_threads: NonZeroUsize::MIN,
        workers: thread::available_parallelism()?,
        probe: false,
        cancelled: Arc::default(),
    };
    let mut values = Vec::new();
    run(
        &[Replica::new(model, Memory::default())],
        texts.iter().map(Ok::<_, Infallible>),
        &options,
        |_| (),
        |_, rows| {
            values.extend(rows.into_values());
            Ok::<_, Infallible>(())
        },
    )?;
    Ok(Rows::new(model.dimensions(), values))
}

/// The nearest documents of a query, the nearest first.
fn nearest(documents: &Rows, query: &[f32]) -> Vec<usize> {
    let mut scored: Vec<(usize, f32)> = documents.iter().map(|document| dot(document, query)).enumerate().collect();
    scored.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    scored.into_iter().take(NEAREST).map(|(document, _)| document).collect()
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(x, y)| x * y).sum()
}
