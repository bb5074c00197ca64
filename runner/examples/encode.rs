//! Times one model over texts, as `make bench` does: prints one JSON line with the texts, tokens and seconds.
//!
//! Texts are JSON lines of `{"text"}`, pairs of `{"query", "document"}`. Every repetition is a whole pass, tokenization
//! included: on the CPU with one worker per core, on a card with two, and the texts tokenized by every core.

use std::{
    convert::Infallible,
    error::Error,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use candle_core::Device;
use clap::{Parser, ValueEnum};
use crds::v1alpha1::Dtype;
use runner::{
    cli::DeviceKind,
    device::{driver, memory::Memory},
    model::{CrossEncoder, DenseEncoder, DenseOptions, SparseOptions, SpladeModel},
    ops,
    pass::{Pair, PassOptions, Replica, RowModel, batching::TokenBudget, run},
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
    /// Where to compute.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// The type of a dense model's arithmetic; other models have that of the device.
    #[arg(long, default_value = "f32")]
    dtype: Arithmetic,
    /// Repetitions that are timed, after one that is not.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Print {} when ready, and make a pass for each line of the standard input instead.
    #[arg(long)]
    paced: bool,
    /// Threads that compute; by default the number of cores, on a card two.
    #[arg(long)]
    workers: Option<NonZeroUsize>,
    /// Tokens of a batch; by default 1024, on a card 32768.
    #[arg(long)]
    batch: Option<usize>,
    /// Where the vectors of a dense model go: rows of f32, little-endian, in the order of the texts.
    #[arg(long)]
    vectors: Option<PathBuf>,
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
    F16,
    Bf16,
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
    let cores = thread::available_parallelism()?;
    let card = if args.device == DeviceKind::Cpu { None } else { driver::open(1, ops::device::prepare).devices.pop() };
    if args.device == DeviceKind::Cuda && card.is_none() {
        return Err(driver::open(1, ops::device::prepare).reason.into());
    }
    let device = card.map_or(Device::Cpu, |opened| opened.device);
    let on_card = !device.is_cpu();
    let size = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let workers = args.workers.unwrap_or(if on_card { size(2) } else { cores });
    let budget = args.batch.unwrap_or(if on_card { 32_768 } else { 1024 });
    let options = PassOptions {
        // Of fewer texts a card would get batches that are not full.
        window: size(if on_card { 4096 } else { 512 }),
        batch: TokenBudget(budget),
        tokenizer_threads: if on_card { cores } else { NonZeroUsize::MIN },
        workers,
        probe: false,
        cancelled: Arc::default(),
    };
    let started = Instant::now();
    let mut pass: Box<dyn FnMut() -> Result<u64, Box<dyn Error>>> = match args.task {
        Task::Dense => {
            let dtype = match args.dtype {
                Arithmetic::F32 => Dtype::F32,
                Arithmetic::F16 => Dtype::F16,
                Arithmetic::Bf16 => Dtype::Bf16,
                Arithmetic::Int8 => Dtype::Int8,
            };
            let of_model =
                DenseOptions { max_tokens: Some(args.max_tokens), dtype: Some(dtype), ..DenseOptions::default() };
            let model = DenseEncoder::load("model", &args.model, &of_model, &device)?;
            let (records, file) = (&records, &args.vectors);
            Box::new(move || {
                let mut bytes = Vec::new();
                let texts = records.iter().map(|record| &record.text);
                let tokens = whole_pass(&model, texts, &options, |rows| {
                    if file.is_some() {
                        bytes.extend(rows.values().iter().flat_map(|value| value.to_le_bytes()));
                    }
                })?;
                if let Some(file) = file {
                    fs::write(file, bytes)?;
                }
                Ok(tokens)
            })
        }
        Task::Sparse => {
            let of_model = SparseOptions { max_tokens: Some(args.max_tokens), ..SparseOptions::default() };
            let model = SpladeModel::load("model", &args.model, of_model, &device)?;
            let records = &records;
            Box::new(move || whole_pass(&model, records.iter().map(|record| &record.text), &options, |_| ()))
        }
        Task::Rerank => {
            let model = CrossEncoder::load("model", &args.model, Some(args.max_tokens), &device)?;
            let records = &records;
            let pair =
                |record: &Record| Pair { query: record.query.clone().into(), document: record.text.clone().into() };
            Box::new(move || whole_pass(&model, records.iter().map(pair), &options, |_| ()))
        }
    };
    let load_seconds = started.elapsed().as_secs_f64();
    let mut tokens = pass()?;
    let mut seconds = Vec::new();
    let mut timed = || -> Result<f64, Box<dyn Error>> {
        let started = Instant::now();
        tokens = pass()?;
        seconds.push(started.elapsed().as_secs_f64());
        Ok(started.elapsed().as_secs_f64())
    };
    if args.paced {
        println!("{{}}");
        for line in io::stdin().lines() {
            line?;
            println!("{}", serde_json::json!({ "seconds": timed()? }));
        }
    } else {
        for _ in 0..args.repeat {
            timed()?;
        }
    }
    println!(
        "{}",
        serde_json::json!({
            "texts": records.len(), "tokens": tokens, "seconds": seconds, "load_seconds": load_seconds,
            "peak_rss_mb": peak_memory()?, "workers": workers, "batch": budget, "device": if on_card { "cuda" } else { "cpu" },
        })
    );
    Ok(())
}

/// One pass as a stage makes it: texts are tokenized while others are computed. The answer is the number of tokens.
fn whole_pass<M: RowModel<I>, I: Send + Sync>(
    model: &M,
    items: impl Iterator<Item = I> + Send,
    options: &PassOptions,
    mut sink: impl FnMut(M::Rows),
) -> Result<u64, Box<dyn Error>> {
    let replica = Replica::new(model, Memory::default());
    let sink = |_, rows| {
        sink(rows);
        Ok(())
    };
    Ok(run(&[replica], items.map(Ok::<_, Infallible>), options, |_| (), sink)?.tokens)
}

/// The most memory that the process has held, in megabytes, as Linux counts it.
fn peak_memory() -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1000.0)
}
