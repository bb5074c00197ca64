//! A chart with its captions.

use super::series::LegendEntry;
use crate::error::Error;

const WIDE: u32 = 920;
const NARROW: u32 = 360;

/// A chart in two widths: the labels of a wide chart are unreadable when it is scaled down to a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// For a screen.
    pub wide: String,
    /// For a phone.
    pub narrow: String,
    /// The label of the horizontal axis.
    pub axis: String,
    /// The models and their colours.
    pub legend: Vec<LegendEntry>,
    /// Notes below the chart.
    pub notes: Vec<String>,
}

impl Figure {
    /// The figure that `draw` draws for each width in pixels, without legend and notes.
    pub fn drawn(axis: String, draw: impl Fn(u32) -> Result<String, Error>) -> Result<Self, Error> {
        Ok(Self { wide: draw(WIDE)?, narrow: draw(NARROW)?, axis, legend: Vec::new(), notes: Vec::new() })
    }
}
