//! The cases: folders with a `case.json`.

use std::{collections::HashMap, env, fs, path::PathBuf, sync::OnceLock};

use candle_core::{Device, Tensor};
use crds::v1alpha1::Dtype;
use libtest_mimic::Trial;
use runner::{device::driver, ops, tokenizer::Tokens};
use serde::{Deserialize, de::DeserializeOwned};

use crate::models;

/// The device that the models are computed on: the first card where `EMBEDRUN_TEST_DEVICE` is `cuda`, else the CPU.
/// It is opened once, since a card takes its time.
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let open = || match env::var("EMBEDRUN_TEST_DEVICE").as_deref() {
        Ok("cuda") => {
            let found = driver::open(1, ops::device::prepare);
            found.devices.into_iter().next().unwrap_or_else(|| panic!("EMBEDRUN_TEST_DEVICE: {}", found.reason)).device
        }
        Ok("cpu") | Err(_) => Device::Cpu,
        Ok(other) => panic!("EMBEDRUN_TEST_DEVICE is {other:?}, not cpu or cuda"),
    };
    DEVICE.get_or_init(open).clone()
}

/// The type of dense models that `EMBEDRUN_TEST_DTYPE` asks for, else that of the reference. Models of other tasks have
/// the type of the device.
pub fn dtype() -> Dtype {
    match env::var("EMBEDRUN_TEST_DTYPE").as_deref() {
        Ok("f32") | Err(_) => Dtype::F32,
        Ok("f16") => Dtype::F16,
        Ok("bf16") => Dtype::Bf16,
        Ok(other) => panic!("EMBEDRUN_TEST_DTYPE is {other:?}, not f32, f16 or bf16"),
    }
}

/// Whether the arithmetic is another one than the reference's: on a card, or of fewer bits.
pub fn is_rounded() -> bool {
    !device().is_cpu() || dtype() != Dtype::F32
}

/// A case.
#[derive(Clone)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    /// What is computed: `dense`, `sparse` or `rerank`.
    pub task: String,
    /// The folder of the model.
    pub model: PathBuf,
    /// The name of a published model, which takes its time.
    pub published: Option<String>,
    /// The longest sequence.
    pub max_tokens: Option<usize>,
    /// `query` or `document`, where texts get a prompt.
    pub prompt_name: Option<String>,
    /// What stands before every text, where the model's folder does not say so.
    pub prompt: Option<String>,
    /// The width that vectors are cut to.
    pub dimensions: Option<usize>,
    /// The least cosine of the reference's own vectors in bfloat16 to those that are expected.
    pub bfloat16: Option<f64>,
    dir: PathBuf,
}

#[derive(Deserialize)]
struct CaseFile {
    task: String,
    model: Option<String>,
    max_tokens: Option<usize>,
    prompt_name: Option<String>,
    prompt: Option<String>,
    truncate_dim: Option<usize>,
    bfloat16: Option<f64>,
}

impl Case {
    /// A test of this case; of a published model that is missing it is ignored, or fails ([`models::trial`]).
    pub fn trial(self, name: String, test: impl FnOnce(&Case) -> Result<(), String> + Send + 'static) -> Trial {
        match self.published.clone() {
            None => Trial::test(name, move || test(&self).map_err(Into::into)),
            Some(model) => {
                models::trial(name, &model, move |folder| test(&self.with_model(folder)).map_err(Into::into))
            }
        }
    }

    /// The same case with the folder of another model.
    pub fn with_model(&self, model: PathBuf) -> Self {
        Self { model, ..self.clone() }
    }

    /// The records of `texts.jsonl`.
    pub fn texts<T: DeserializeOwned>(&self) -> Vec<T> {
        let lines = fs::read_to_string(self.dir.join("texts.jsonl")).expect("the texts");
        lines.split_terminator('\n').map(|line| serde_json::from_str(line).expect("a text")).collect()
    }

    /// The tensors of `expected.safetensors`.
    pub fn expected(&self) -> HashMap<String, Tensor> {
        candle_core::safetensors::load(self.dir.join("expected.safetensors"), &Device::Cpu).expect("what is expected")
    }
}

/// Whether a text has the tokens, and has lost those, that the reference counts.
pub fn same_counts(text: &str, tokens: &Tokens, reference: (usize, usize)) -> Result<(), String> {
    let counts = (tokens.ids.len(), tokens.lost);
    if counts == reference {
        return Ok(());
    }
    Err(format!("{text:?}: tokens and lost are {counts:?}, the reference has {reference:?}"))
}

/// All cases. The model of a published one may be missing.
pub fn all() -> Vec<Case> {
    // On another machine than the one that compiled this, the sources are elsewhere.
    let fixtures = env::var_os("EMBEDRUN_TEST_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures"), PathBuf::from);
    let mut cases = Vec::new();
    for entry in fs::read_dir(fixtures).expect("the fixtures") {
        let dir = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(dir.join("case.json")) else { continue };
        let file: CaseFile = serde_json::from_str(&text).expect("a case");
        cases.push(Case {
            name: dir.file_name().expect("a name").to_string_lossy().into_owned(),
            task: file.task,
            model: dir.clone(),
            published: file.model,
            max_tokens: file.max_tokens,
            prompt_name: file.prompt_name,
            prompt: file.prompt,
            dimensions: file.truncate_dim,
            bfloat16: file.bfloat16,
            dir,
        });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

/// The batches in which rows are computed: each alone, all in their order, all in another one, and those of each length
/// that several have.
pub fn batches(rows: &[Tokens]) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = (0..rows.len()).map(|row| vec![row]).collect();
    let mut shuffled: Vec<usize> = (0..rows.len()).collect();
    shuffled.sort_by_key(|row| (row * 2_654_435_761) % 1_000_003);
    batches.extend([(0..rows.len()).collect(), shuffled]);
    let mut by_length: HashMap<usize, Vec<usize>> = HashMap::new();
    for (row, tokens) in rows.iter().enumerate() {
        by_length.entry(tokens.ids.len()).or_default().push(row);
    }
    let before = batches.len();
    batches.extend(by_length.into_values().filter(|rows| rows.len() > 1));
    assert!(batches.len() > before, "some rows have one length");
    batches
}

/// The cosine of two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The largest difference of two values.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
