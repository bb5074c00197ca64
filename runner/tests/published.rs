//! The figures that the publishers of real models give.
//!
//! The models are below `$EMBEDRUN_TEST_MODELS`, which `make test` fetches; without it these tests are ignored ([`models`]).

#[path = "common/models.rs"]
mod models;

use std::path::PathBuf;

use candle_core::Device;
use crds::v1alpha1::Dtype;
use libtest_mimic::{Arguments, Failed, Trial};
use runner::{
    model::{CrossEncoder, DenseEncoder, DenseOptions, Side, SparseOptions, SpladeModel},
    tokenizer::Tokens,
};

fn main() {
    let trial = |name: &str, model: &str, test: fn(PathBuf)| -> Trial {
        models::trial(name, model, move |folder| {
            test(folder);
            Ok::<(), Failed>(())
        })
    };
    let trials = vec![
        trial("minilm_has_the_published_similarities", "all-MiniLM-L6-v2", minilm_has_the_published_similarities),
        trial(
            "minilm_with_8_bit_weights_is_near_that_of_floats_and_finds_the_same",
            "all-MiniLM-L6-v2",
            minilm_with_8_bit_weights_is_near_that_of_floats_and_finds_the_same,
        ),
        trial("splade_has_the_published_dot_products", "splade-tiny", splade_has_the_published_dot_products),
        trial(
            "the_cross_encoder_has_the_published_scores",
            "ms-marco-MiniLM-L12-v2-dq",
            the_cross_encoder_has_the_published_scores,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn close(found: f32, published: f32, tolerance: f32) {
    assert!((found - published).abs() <= tolerance, "{found}, published {published}");
}

fn minilm_has_the_published_similarities(folder: PathBuf) {
    let model = DenseEncoder::load("minilm", &folder, &DenseOptions::default(), &Device::Cpu).expect("the model loads");
    let texts = [
        "How many people live in Berlin?",
        "What is the number of inhabitants of the German capital?",
        "Berlin has a population of 3.5 million registered inhabitants.",
        "The recipe needs two eggs and a cup of flour.",
    ];
    let tokens = texts.map(|text| model.encode(text, Side::Document).expect("tokens"));
    let vectors = model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors");
    for (row, published) in [(1, 0.747), (2, 0.797), (3, 0.057)] {
        let similarity = vectors.row(0).iter().zip(vectors.row(row)).map(|(a, b)| a * b).sum::<f32>();
        close(similarity, published, 0.0005);
    }
}

/// Questions and what answers each.
const PAIRS: [(&str, &str); 16] = [
    ("How many people live in Berlin?", "Berlin has a population of 3.5 million registered inhabitants."),
    ("What is the boiling point of water?", "At sea level water turns to steam at 100 degrees Celsius."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci began the portrait in Florence in 1503."),
    ("How do bees make honey?", "Worker insects collect nectar and thicken it in the hive by fanning their wings."),
    ("Why is the sky blue?", "Air scatters light of short wavelengths more than that of long ones."),
    ("What does a compiler do?", "It translates source code of a programming language to machine code."),
    ("When did the Second World War end?", "Germany surrendered in May 1945 and Japan in September."),
    (
        "Which planet is the largest?",
        "Jupiter has more than twice the mass of all others of the solar system together.",
    ),
    ("How is bread baked?", "Knead flour, water, yeast and salt, let the dough rise, and put it in a hot oven."),
    ("What causes tides?", "The gravity of the moon and the sun pulls the water of the oceans."),
    ("How fast does light travel?", "In a vacuum it covers about 300,000 kilometres in a second."),
    ("What is photosynthesis?", "Plants turn carbon dioxide and water to sugar with the energy of the sun."),
    ("Who wrote Hamlet?", "William Shakespeare finished the tragedy of the Danish prince around 1600."),
    ("How do vaccines work?", "They train the immune system to recognise a pathogen before an infection."),
    ("What is inflation?", "Prices rise over time, so that a unit of money buys less."),
    (
        "How deep is the Mariana Trench?",
        "Its lowest point lies almost eleven kilometres below the surface of the Pacific.",
    ),
];

fn minilm_with_8_bit_weights_is_near_that_of_floats_and_finds_the_same(folder: PathBuf) {
    let texts: Vec<&str> = PAIRS.iter().flat_map(|(question, answer)| [*question, *answer]).collect();
    let vectors = [Dtype::F32, Dtype::Int8].map(|dtype| {
        let options = DenseOptions { dtype: Some(dtype), ..DenseOptions::default() };
        let model = DenseEncoder::load("minilm", &folder, &options, &Device::Cpu).expect("the model loads");
        let tokens: Vec<Tokens> =
            texts.iter().map(|text| model.encode(text, Side::Document).expect("tokens")).collect();
        model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors")
    });
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let [floats, int8] = &vectors;
    let cosines: Vec<f32> = floats.iter().zip(int8.iter()).map(|(one, other)| dot(one, other)).collect();
    let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
    let worst = cosines.iter().copied().fold(1.0, f32::min);
    assert!(mean >= 0.99 && worst >= 0.98, "cosine {mean} on average, {worst} at worst");
    // Weights of 8 bits lose something: vectors that do not show it were computed with the floats.
    assert!(mean <= 0.999_99, "cosine {mean} on average: these are the weights of the floats");
    let [by_floats, by_int8] = vectors.each_ref().map(|vectors| {
        let answered = |pair: &usize| {
            let score = |answer: usize| dot(vectors.row(2 * pair), vectors.row(2 * answer + 1));
            (0..PAIRS.len()).all(|other| score(other) <= score(*pair))
        };
        (0..PAIRS.len()).filter(answered).count()
    });
    println!("cosine {mean} on average, {worst} at worst; {by_int8} questions answered, {by_floats} by floats");
    assert!(by_floats + 1 >= PAIRS.len(), "{by_floats} questions find their answer by floats");
    assert!(by_int8 + 1 >= by_floats, "{by_int8} questions find their answer, {by_floats} by floats");
}

fn splade_has_the_published_dot_products(folder: PathBuf) {
    let model = SpladeModel::load("splade", &folder, SparseOptions::default(), &Device::Cpu).expect("the model loads");
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let tokens = texts.map(|text| model.encode(text, Side::Document).expect("tokens"));
    let vectors = model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors");
    for (one, other, published) in
        [(0, 0, 39.725), (0, 1, 7.166), (1, 1, 27.026), (1, 2, 0.139), (0, 2, 0.0), (2, 2, 26.354)]
    {
        close(vectors[one].dot(&vectors[other]), published, 0.002);
    }
}

fn the_cross_encoder_has_the_published_scores(folder: PathBuf) {
    let model = CrossEncoder::load("ce", &folder, None, &Device::Cpu).expect("the model loads");
    let query = "How many people live in Berlin?";
    let documents = [
        "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
        "Berlin is well known for its museums.",
        "The recipe needs two eggs and a cup of flour.",
    ];
    let pairs = documents.map(|document| model.encode(query, document).expect("tokens"));
    let scores = model.score(&pairs.iter().collect::<Vec<&Tokens>>()).expect("scores");
    assert_eq!(scores.len(), documents.len());
    for (score, (published, tolerance)) in scores.iter().zip([(9.27, 0.01), (-3.93, 0.01), (-11.0, 0.5)]) {
        close(score.logit, published, tolerance);
        close(score.score, score.logit, 0.0);
    }
}
