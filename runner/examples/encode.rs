//! Times one model over texts, as `make bench` does: prints one JSON line with the texts, tokens and seconds.
//!
//! Texts are JSON lines of `{"text"}`, pairs of `{"query", "document"}`. Every repetition is a whole pass, tokenization
//! included, with one worker per core.

use std::{
    convert::Infallible,
    error::Error,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use candle_core::Device;
use clap::{Parser, ValueEnum};
use crds::v1alpha1::Dtype;
use runner::{
    batch::{TokenBudget, last_batches},
    batched::{PassOptions, Replica, run},
    memory::Memory,
    model::{DenseModel, DenseOptions, ModelError, Reranker, SparseModel, SparseOptions},
    text::Tokens,
};
use serde::Deserialize;

#[derive(Parser)]
struct Args {
    /// What the model is.
    #[arg(long, default_value = "dense")]
    task: Task,
    /// The model folder.
    #[arg(long)]
    model: PathBuf,
    /// The texts, or pairs.
    #[arg(long)]
    texts: PathBuf,
    /// The longest sequence.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// The type of a dense model's arithmetic.
    #[arg(long, default_value = "f32")]
    dtype: Arithmetic,
    /// Repetitions that are timed, after one that is not.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Threads that compute; the number of cores by default.
    #[arg(long)]
    workers: Option<NonZeroUsize>,
    /// Tokens of a batch.
    #[arg(long, default_value_t = 1024)]
    batch: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Task {
    Dense,
    Sparse,
    Rerank,
}

#[derive(Clone, Copy, ValueEnum)]
enum Arithmetic {
    F32,
    Int8,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default, alias = "document")]
    text: String,
    #[serde(default)]
    query: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let lines = fs::read_to_string(&args.texts)?;
    let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Record>, _>>()?;
    let workers = args.workers.unwrap_or(thread::available_parallelism()?);
    let started = Instant::now();
    let mut pass: Box<dyn FnMut() -> Result<u64, Box<dyn Error>>> = match args.task {
        Task::Dense => {
            let dtype = match args.dtype {
                Arithmetic::F32 => Dtype::F32,
                Arithmetic::Int8 => Dtype::Int8,
            };
            let options = DenseOptions { max_tokens: Some(args.max_tokens), dtype, ..DenseOptions::default() };
            let model = DenseModel::load("model", &args.model, &options, &Device::Cpu)?;
            let options = PassOptions {
                window: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
                batch: TokenBudget(args.batch),
                tokenizer_threads: NonZeroUsize::MIN,
                workers,
                probe: false,
                cancelled: Arc::default(),
            };
            let records = &records;
            Box::new(move || {
                let texts = records.iter().map(|record| Ok::<_, Infallible>(&record.text));
                let replica = Replica::new(&model, Memory::default());
                Ok(run(&[replica], texts, &options, |_| (), |_, _| Ok(()))?.tokens)
            })
        }
        Task::Sparse => {
            let options = SparseOptions { max_tokens: Some(args.max_tokens), ..SparseOptions::default() };
            let model = SparseModel::load("model", &args.model, options, &Device::Cpu)?;
            let (records, budget) = (&records, args.batch);
            Box::new(move || {
                let tokens = tokenized(records, |record| model.encode(&record.text))?;
                side_by_side(&tokens, budget, workers, |rows| model.embed(rows).map(|_| ()))
            })
        }
        Task::Rerank => {
            let model = Reranker::load("model", &args.model, Some(args.max_tokens), &Device::Cpu)?;
            let (records, budget) = (&records, args.batch);
            Box::new(move || {
                let tokens = tokenized(records, |record| model.encode(&record.query, &record.text))?;
                side_by_side(&tokens, budget, workers, |rows| model.score(rows).map(|_| ()))
            })
        }
    };
    let load_seconds = started.elapsed().as_secs_f64();
    let mut tokens = pass()?;
    let mut seconds = Vec::with_capacity(args.repeat);
    for _ in 0..args.repeat {
        let started = Instant::now();
        tokens = pass()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        serde_json::json!({
            "texts": records.len(), "tokens": tokens, "seconds": seconds, "load_seconds": load_seconds,
            "peak_rss_mb": peak_memory()?, "workers": workers,
        })
    );
    Ok(())
}

fn tokenized(
    records: &[Record],
    encode: impl Fn(&Record) -> Result<Tokens, ModelError>,
) -> Result<Vec<Tokens>, ModelError> {
    records.iter().map(encode).collect()
}

/// Computes batches with several workers, each taking the next that is left. The answer is the number of tokens.
fn side_by_side(
    tokens: &[Tokens],
    budget: usize,
    workers: NonZeroUsize,
    compute: impl Fn(&[&Tokens]) -> Result<(), ModelError> + Sync,
) -> Result<u64, Box<dyn Error>> {
    let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.ids.len()).collect();
    let batches = last_batches(&lengths, TokenBudget(budget), workers.get());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || -> Result<(), ModelError> {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                compute(&batch.iter().map(|&row| &tokens[row]).collect::<Vec<_>>())?;
            }
            Ok(())
        };
        let running: Vec<_> = (0..workers.get()).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(lengths.iter().map(|length| *length as u64).sum())
}

/// The most memory that the process has held, in megabytes, as Linux counts it.
fn peak_memory() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1000.0)
}
