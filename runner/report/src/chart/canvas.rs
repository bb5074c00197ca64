//! Axes, and an SVG drawn between them.

use std::{io, ops::Range};

use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

use super::palette::{GRID, INK};
use crate::error::Error;

pub type Canvas<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// The axes of a chart.
pub struct Axes<'a> {
    pub x: Range<f64>,
    pub y: Range<f64>,
    pub x_tick: &'a dyn Fn(f64) -> String,
    /// `None` for a vertical axis without ticks.
    pub y_tick: Option<&'a dyn Fn(f64) -> String>,
}

/// An SVG with the axes and the marks that `marks` draws between them.
pub fn svg(
    size: (u32, u32),
    axes: &Axes<'_>,
    marks: impl FnOnce(&mut Canvas<'_, '_>) -> Drawn,
) -> Result<String, Error> {
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

/// The height of an axis with room above the highest mark; never 0.
pub fn headroom(highest: f64) -> f64 {
    if highest > 0.0 { highest * 1.08 } else { 1.0 }
}
