//! A world whose model is on a hub.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    server::{Hub, REPO, Seen},
    world::{BINARY, Ended, World},
};

pub struct Site {
    pub world: World,
    pub hub: Hub,
    /// What `main` named first.
    pub commit: String,
}

/// Every variable of the hub's libraries that the machine may have set.
const VARIABLES: [&str; 8] = [
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "EMBEDRUN_HUB_TOKEN_FILE",
];

impl Site {
    /// Ten chunks, and the tiny model as the revision `main` of a hub.
    pub fn new() -> Self {
        let world = World::new();
        world.ten_chunks();
        let hub = Hub::start();
        let commit = hub.commit("main", &world.path("model"));
        let site = Self { world, hub, commit };
        site.revision("main");
        site
    }

    /// Lets the manifest name this revision.
    pub fn revision(&self, revision: &str) -> &Self {
        self.source(&format!("hf://{REPO}@{revision}"))
    }

    /// Lets the manifest name this source of the model.
    pub fn source(&self, source: &str) -> &Self {
        self.world.manifest("");
        let manifest = fs::read_to_string(self.world.path("run.yaml")).expect("a manifest");
        let folder = format!("file://{}", self.world.path("model").display());
        assert!(manifest.contains(&folder));
        self.world.manifest_text(&manifest.replace(&folder, source));
        self
    }

    /// The cache of the repository.
    pub fn cache(&self) -> PathBuf {
        self.world.path("home/hub").join(format!("models--{}", REPO.replace('/', "--")))
    }

    /// Sets what tells a process where the hub and the cache are.
    pub fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.env("HF_ENDPOINT", &self.hub.url).env("HF_HOME", self.world.path("home")).env("NO_PROXY", "127.0.0.1")
    }

    /// The binary, with more variables.
    pub fn embedrun(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = Command::new(BINARY);
        self.prepare(command.args(arguments)).envs(variables.iter().copied());
        self.world.ended(command)
    }

    /// `embedrun run -f run.yaml`.
    pub fn run(&self) -> Ended {
        self.embedrun(&["run", "-f", "run.yaml"], &[])
    }

    /// The stages, one process each.
    pub fn plan(&self) -> Ended {
        self.world.config();
        self.embedrun(&["plan", "--config", "run.json", "--shard-size", "5"], &[])
    }

    pub fn embed(&self, shard: u32) -> Ended {
        self.embedrun(&["embed", "--config", "run.json", "--shard", &shard.to_string(), "--gpu-count", "0"], &[])
    }

    /// Lets the next run compute again.
    pub fn forget_output(&self) -> &Self {
        fs::remove_dir_all(self.world.path("out")).expect("an output");
        self
    }

    /// Asserts that no vector was written and no reader pointed to any.
    pub fn nothing_is_exported(&self) {
        let files: Vec<String> = self.world.files().into_keys().collect();
        assert!(files.iter().all(|file| file.ends_with("/plan.json")), "{files:?}");
    }
}

/// The paths of the requests that fetched content.
pub fn downloads(seen: &[Seen]) -> Vec<&str> {
    let content = seen.iter().filter(|request| request.is_download());
    content.map(|request| request.path.rsplit_once("/resolve/").map_or(&*request.path, |(_, path)| path)).collect()
}
