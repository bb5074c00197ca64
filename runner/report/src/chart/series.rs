//! The colours of the models, the same in every chart of a report.

use plotters::style::RGBColor;

use super::palette::SERIES;

/// The models of a run, each with a stage, in the order of their colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(Vec<(String, String)>);

/// An entry of a legend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegendEntry {
    /// A model with its stage, or the name of another mark.
    pub label: String,
    /// The class of its mark in the style sheet.
    pub class: String,
}

impl Series {
    /// The index of a model, which is added if it is new.
    pub fn index(&mut self, stage: &str, model: &str) -> usize {
        self.find(stage, model).unwrap_or_else(|| {
            self.0.push((stage.to_owned(), model.to_owned()));
            self.0.len() - 1
        })
    }

    /// The index of a model; `None` if it has not been added.
    pub fn find(&self, stage: &str, model: &str) -> Option<usize> {
        self.0.iter().position(|(known_stage, known_model)| known_stage == stage && known_model == model)
    }

    /// The number of models.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The colour of an index. Colours repeat if there are more models than colours.
    pub fn colour(index: usize) -> RGBColor {
        SERIES[index % SERIES.len()]
    }

    /// The legend entries of the models whose index `shown` accepts.
    pub fn legend(&self, shown: impl Fn(usize) -> bool) -> Vec<LegendEntry> {
        let entry = |(index, (stage, model)): (usize, &(String, String))| LegendEntry {
            label: format!("{model} · {stage}"),
            class: format!("s{}", index % SERIES.len() + 1),
        };
        self.0.iter().enumerate().filter(|(index, _)| shown(*index)).map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_keeps_its_colour_and_two_stages_may_share_a_name() {
        let mut series = Series::default();
        assert_eq!((series.index("dense", "bge"), series.index("sparse", "bge")), (0, 1));
        assert_eq!((series.index("dense", "bge"), series.len()), (0, 2));
        assert_eq!(
            series.legend(|index| index == 1),
            [LegendEntry { label: "bge · sparse".into(), class: "s2".into() }]
        );
    }

    #[test]
    fn colours_repeat_after_the_last() {
        assert_eq!(Series::colour(8), Series::colour(0));
    }
}
