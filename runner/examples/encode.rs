//! Times one model over texts, as `make bench` does: prints one JSON line with the texts, tokens and seconds.
//!
//! The texts are JSON lines of `{"text"}`; every repetition is a whole pass, tokenization included.

use std::{convert::Infallible, fs, num::NonZeroUsize, path::PathBuf, sync::Arc, thread, time::Instant};

use candle_core::Device;
use clap::Parser;
use runner::{
    batch::TokenBudget,
    model::{DenseModel, DenseOptions},
    stage::dense::{PassOptions, run},
};
use serde::Deserialize;

#[derive(Parser)]
struct Args {
    /// The model folder.
    #[arg(long)]
    model: PathBuf,
    /// The texts.
    #[arg(long)]
    texts: PathBuf,
    /// The longest sequence.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
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

#[derive(Deserialize)]
struct Text {
    text: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let lines = fs::read_to_string(&args.texts)?;
    let texts = lines.lines().map(|line| Ok(serde_json::from_str::<Text>(line)?.text));
    let texts = texts.collect::<Result<Vec<_>, serde_json::Error>>()?;
    let started = Instant::now();
    let options = DenseOptions { max_tokens: Some(args.max_tokens), ..DenseOptions::default() };
    let model = DenseModel::load("model", &args.model, &options, &Device::Cpu)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let workers = args.workers.unwrap_or(thread::available_parallelism()?);
    let options = PassOptions {
        window: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
        batch: TokenBudget(args.batch),
        tokenizer_threads: NonZeroUsize::MIN,
        workers,
        cancelled: Arc::default(),
    };
    let mut seconds = Vec::new();
    let mut tokens = 0;
    for _ in 0..=args.repeat {
        let texts = texts.iter().map(Ok::<_, Infallible>);
        let record = run(&model, texts, &options, |_| (), |_, _| Ok(()))?;
        seconds.push(record.seconds);
        tokens = record.tokens;
    }
    println!(
        "{}",
        serde_json::json!({
            "texts": texts.len(), "tokens": tokens, "seconds": seconds[1..], "load_seconds": load_seconds,
            "workers": workers,
        })
    );
    Ok(())
}
