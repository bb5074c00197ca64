//! The colours of the charts, those of the light scheme. The style sheet maps each to the scheme in use.

use plotters::style::RGBColor;

/// Axes and their labels.
pub const INK: RGBColor = RGBColor(0x52, 0x51, 0x4E);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xE1, 0xE0, 0xD9);
/// Limits; the style sheet draws their lines dashed.
pub const LIMIT: RGBColor = RGBColor(0xD0, 0x3B, 0x3B);
/// Truncated chunks, and batches that were made smaller.
pub const TRUNCATED: RGBColor = RGBColor(0xEC, 0x83, 0x5A);
/// Batches that were made larger again.
pub const RECOVERED: RGBColor = RGBColor(0x0C, 0xA3, 0x0C);
/// Models in their order. Neighbours stay distinguishable for every kind of colour vision.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(RGBColor(red, green, blue): RGBColor) -> String {
        format!("#{red:02X}{green:02X}{blue:02X}")
    }

    #[test]
    fn the_style_sheet_has_a_rule_for_every_colour() {
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
        for (colour, property) in [
            (INK, "fill"),
            (GRID, "stroke"),
            (LIMIT, "stroke"),
            (LIMIT, "fill"),
            (TRUNCATED, "fill"),
            (RECOVERED, "fill"),
        ] {
            let rule = format!("[{property}=\"{}\"]", attribute(colour));
            assert!(style.contains(&rule), "{rule}");
        }
    }
}
