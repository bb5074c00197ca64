//! No architecture without parity: each one, under each of its names, is compared with the reference.

use std::{collections::BTreeSet, fs};

use runner::model::{
    architecture::{self, ARCHITECTURES},
    config::Config,
};
use serde_json::Value;

use crate::folder::{Folder, fixtures};

/// Model types that are another one by a second name; the parity of that one is theirs.
const ALIASES: [(&str, &str); 1] = [("camembert", "roberta")];

const TEXT: &str = "A queue of jobs misplaces a broken mirror.";

/// The architecture and the model type of every dense case whose model is in the fixtures.
fn compared() -> BTreeSet<(&'static str, String)> {
    let cases = fs::read_dir(fixtures()).expect("the fixtures").flatten().map(|entry| entry.path());
    let read = |path: std::path::PathBuf| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    cases
        .filter(|case| read(case.join("case.json")).is_some_and(|case| case["task"] == "dense"))
        .filter_map(|case| Some(Config::new("m", &case, read(case.join("config.json"))?)))
        .map(|config| (architecture::find(&config).expect("a known one").name, config.model_type().to_owned()))
        .collect()
}

#[test]
fn every_architecture_has_a_parity_case_for_each_of_its_model_types() {
    let compared = compared();
    for architecture in ARCHITECTURES {
        for model_type in architecture.model_types {
            let of = ALIASES.iter().find(|(alias, _)| alias == model_type).map_or(*model_type, |(_, of)| of);
            assert!(
                compared.contains(&(architecture.name, of.to_owned())),
                "{} has no case in tests/parity/fixtures with the model_type {model_type:?}",
                architecture.name
            );
        }
    }
}

#[test]
fn a_model_type_that_is_another_name_of_one_gives_its_vectors() {
    for (alias, of) in ALIASES {
        let folder = Folder::of_case(&format!("{of}-mean"));
        let vector = folder.vector(TEXT);
        folder.edit("config.json", |json| json["model_type"] = alias.into());
        assert_eq!(folder.vector(TEXT), vector, "{alias}");
    }
}
