//! How far the runner, the second reference and the expected vectors are from each other.

/// What is said where the second reference is alone.
pub const ALONE_IS_SECOND: &str = "candle-transformers differs from the expected vectors and from the runner";
/// What is said where the expected vectors are alone.
pub const ALONE_IS_EXPECTED: &str = "the expected vectors differ from the runner and from candle-transformers";

/// The largest distances among the texts of a case.
#[derive(Clone, Copy, Debug)]
pub struct Distances {
    runner_to_second: f32,
    second_to_expected: f32,
    runner_to_expected: f32,
    /// The tolerance.
    at_most: f32,
}

impl Distances {
    /// None yet, of a case with this tolerance.
    pub fn none(at_most: f32) -> Self {
        Self { runner_to_second: 0.0, second_to_expected: 0.0, runner_to_expected: 0.0, at_most }
    }

    /// Adds those of one text, by the runner, by the second reference, and as the case expects it.
    pub fn add<T: ?Sized>(&mut self, runner: &T, second: &T, expected: &T, distance: impl Fn(&T, &T) -> f32) {
        // `f32::max` drops a NaN, which is no agreement.
        let farther = |known: f32, other: f32| if other.is_nan() { f32::INFINITY } else { known.max(other) };
        self.runner_to_second = farther(self.runner_to_second, distance(runner, second));
        self.second_to_expected = farther(self.second_to_expected, distance(second, expected));
        self.runner_to_expected = farther(self.runner_to_expected, distance(runner, expected));
    }

    /// Fails unless all three agree.
    pub fn all_agree(self, case: &str) -> Result<(), String> {
        println!("{case}: largest difference to candle-transformers {:.1e}", self.runner_to_second);
        self.verdict().map_or(Ok(()), |verdict| Err(format!("{case}: {verdict}: {self:?}")))
    }

    /// Fails unless two agree, and the third one is alone as `verdict` says.
    pub fn has_alone(self, case: &str, verdict: &str) -> Result<(), String> {
        if self.verdict() == Some(verdict) {
            return Ok(());
        }
        let found = self.verdict().unwrap_or("all three agree");
        Err(format!("{case}: not what parity/second/mod.rs says ({verdict}): {found}: {self:?}"))
    }

    /// Which one is alone; nothing where all agree.
    fn verdict(self) -> Option<&'static str> {
        let near = |distance: f32| distance <= self.at_most;
        match (near(self.runner_to_second), near(self.second_to_expected), near(self.runner_to_expected)) {
            (true, true, _) => None,
            (false, true, _) => Some("the runner differs from both references"),
            (false, false, true) => Some(ALONE_IS_SECOND),
            (true, false, _) => Some(ALONE_IS_EXPECTED),
            (false, false, false) => Some("the runner, candle-transformers and the expected vectors all differ"),
        }
    }
}
