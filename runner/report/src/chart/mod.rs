//! Charts as inline SVG.
//!
//! They are drawn in the colours of the light scheme, as attributes. The style sheet of the page gives every one of
//! these attributes its colour of the scheme in use (`[fill="#2A78D6"] { fill: var(--s1) }`), so that a chart follows
//! the page into the dark, and is still right where it is cut out of the page. Words stay out of the charts but for the
//! ticks of the axes: legends and captions are HTML, which wraps and is read aloud.

mod lengths;
mod memory;
mod series;
mod throughput;
mod time;
mod timeline;

use std::{io, ops::Range};

use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

pub use self::{
    lengths::lengths,
    memory::memory,
    series::{Legend, Series},
    throughput::throughput,
    timeline::timeline,
};
use crate::Error;

/// Ticks and their labels.
pub const INK: RGBColor = RGBColor(0x52, 0x51, 0x4E);
/// The lines behind a chart.
pub const GRID: RGBColor = RGBColor(0xE1, 0xE0, 0xD9);
/// What must not be passed; the style sheet draws its lines dashed.
pub const LIMIT: RGBColor = RGBColor(0xD0, 0x3B, 0x3B);
/// What was cut.
pub const CUT: RGBColor = RGBColor(0xEC, 0x83, 0x5A);
/// What was taken back.
pub const GOOD: RGBColor = RGBColor(0x0C, 0xA3, 0x0C);
/// Models in their order. The order keeps neighbours apart for every kind of colour vision.
pub const SERIES: [RGBColor; 8] = [
    RGBColor(0x2A, 0x78, 0xD6),
    RGBColor(0x1B, 0xAF, 0x7A),
    RGBColor(0xED, 0xA1, 0x00),
    RGBColor(0x00, 0x83, 0x00),
    RGBColor(0x4A, 0x3A, 0xA7),
    RGBColor(0xE3, 0x49, 0x48),
    RGBColor(0xE8, 0x7B, 0xA4),
    RGBColor(0xEB, 0x68, 0x34),
];

const WIDE: u32 = 920;
const NARROW: u32 = 360;

/// A chart in the two widths that a page needs: a wide one scaled down to a phone has ticks that nobody can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// For a screen.
    pub wide: String,
    /// For a phone.
    pub narrow: String,
    /// What the horizontal axis counts.
    pub axis: String,
    /// The models and their colours.
    pub legend: Vec<Legend>,
    /// What a reader must know beside the chart.
    pub notes: Vec<String>,
}

impl Figure {
    fn drawn(axis: String, draw: impl Fn(u32) -> Result<String, Error>) -> Result<Self, Error> {
        Ok(Self { wide: draw(WIDE)?, narrow: draw(NARROW)?, axis, legend: Vec::new(), notes: Vec::new() })
    }
}

type Canvas<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// The axes of a chart.
struct Axes<'a> {
    x: Range<f64>,
    y: Range<f64>,
    x_tick: &'a dyn Fn(f64) -> String,
    /// No ticks where the vertical axis counts nothing.
    y_tick: Option<&'a dyn Fn(f64) -> String>,
}

/// Axes, and what `marks` draws between them.
fn svg(size: (u32, u32), axes: &Axes<'_>, marks: impl FnOnce(&mut Canvas<'_, '_>) -> Drawn) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let area: DrawingArea<_, Shift> = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let mut canvas = ChartBuilder::on(&area)
            .margin_top(8)
            .margin_right(14)
            .margin_left(2)
            .x_label_area_size(24)
            .y_label_area_size(if axes.y_tick.is_some() { 46 } else { 2 })
            .build_cartesian_2d(axes.x.clone(), axes.y.clone())?;
        let x_label = |x: &f64| (axes.x_tick)(*x);
        let y_label = |y: &f64| axes.y_tick.map(|tick| tick(*y)).unwrap_or_default();
        let mut mesh = canvas.configure_mesh();
        mesh.disable_x_mesh()
            .axis_style(GRID)
            .bold_line_style(GRID)
            .max_light_lines(0)
            .label_style(("sans-serif", 14, &INK))
            .x_labels((size.0 / 90) as usize + 1)
            .y_labels(5)
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label);
        if axes.y_tick.is_none() {
            mesh.disable_y_mesh().disable_y_axis();
        }
        mesh.draw()?;
        marks(&mut canvas)?;
        area.present()?;
    }
    Ok(svg)
}

/// A height with room above the highest mark, and never none.
fn headroom(highest: f64) -> f64 {
    if highest > 0.0 { highest * 1.08 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(RGBColor(red, green, blue): RGBColor) -> String {
        format!("#{red:02X}{green:02X}{blue:02X}")
    }

    #[test]
    fn the_style_sheet_knows_every_colour() {
        let style = include_str!("../../templates/style.css");
        for (index, colour) in (1..).zip(SERIES) {
            let colour = attribute(colour);
            for rule in [
                format!("[fill=\"{colour}\"] {{ fill: var(--s{index}) }}"),
                format!("[stroke=\"{colour}\"] {{ stroke: var(--s{index}) }}"),
            ] {
                assert!(style.contains(&rule), "{rule}");
            }
        }
        for (colour, property) in
            [(INK, "fill"), (GRID, "stroke"), (LIMIT, "stroke"), (LIMIT, "fill"), (CUT, "fill"), (GOOD, "fill")]
        {
            let rule = format!("[{property}=\"{}\"]", attribute(colour));
            assert!(style.contains(&rule), "{rule}");
        }
    }
}
