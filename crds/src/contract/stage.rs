//! The stages of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stage of a run, one Job each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Lists the sources and writes the plan.
    Plan,
    /// Embeds one shard.
    Embed,
    /// Merges candidates, reranks, writes the summaries and publishes.
    Finalize,
}

impl Stage {
    /// The name of the stage: the subcommand of the runner, the suffix of the Job and the value of the stage label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Embed => "embed",
            Self::Finalize => "finalize",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
