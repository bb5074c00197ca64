//! The horizontal axis of what happened when: time since the first event.

use jiff::{Timestamp, tz::TimeZone};

/// Moments as numbers since a start, in a unit that suits their span.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeAxis {
    start: Timestamp,
    /// Seconds of a unit.
    unit: f64,
    name: &'static str,
    /// The last moment, in units; more than 0.
    pub end: f64,
}

impl TimeAxis {
    /// The axis over these moments; none where there are none.
    pub fn over(moments: impl IntoIterator<Item = Timestamp> + Clone) -> Option<Self> {
        let start = moments.clone().into_iter().min()?;
        let end = moments.into_iter().max()?;
        let seconds = end.duration_since(start).as_secs_f64().max(0.001);
        let (unit, name) = match seconds {
            span if span >= 3.0 * 86_400.0 => (86_400.0, "days"),
            span if span >= 2.0 * 3600.0 => (3600.0, "hours"),
            span if span >= 120.0 => (60.0, "minutes"),
            _ => (1.0, "seconds"),
        };
        Some(Self { start, unit, name, end: seconds / unit })
    }

    /// Where a moment lies.
    pub fn at(&self, moment: Timestamp) -> f64 {
        moment.duration_since(self.start).as_secs_f64() / self.unit
    }

    /// A number of units in seconds.
    pub fn seconds(&self, units: f64) -> f64 {
        units * self.unit
    }

    /// What the axis counts.
    pub fn title(&self) -> String {
        let start = self.start.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S");
        format!("{} since {start} UTC", self.name)
    }
}

/// A moment as the summary has it.
pub fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Says how many events are not in a chart, where there are any.
pub fn unread(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} event(s) whose time cannot be read are not in the chart."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(last: &str) -> TimeAxis {
        TimeAxis::over(["2026-11-25T10:00:00Z", last].map(|text| moment(text).expect(text))).expect("moments")
    }

    #[test]
    fn the_unit_suits_the_span() {
        for (last, title, end) in [
            ("2026-11-25T10:01:30Z", "seconds since 2026-11-25 10:00:00 UTC", 90.0),
            ("2026-11-25T10:30:00Z", "minutes since 2026-11-25 10:00:00 UTC", 30.0),
            ("2026-11-25T15:00:00Z", "hours since 2026-11-25 10:00:00 UTC", 5.0),
            ("2026-11-30T10:00:00Z", "days since 2026-11-25 10:00:00 UTC", 5.0),
        ] {
            let axis = axis(last);
            assert_eq!((axis.title().as_str(), axis.end), (title, end));
            assert!((axis.at(moment(last).expect(last)) - end).abs() < 1e-9);
        }
    }

    #[test]
    fn one_moment_has_an_axis_and_none_has_none() {
        assert!(axis("2026-11-25T10:00:00Z").end > 0.0);
        assert_eq!(TimeAxis::over([]), None);
        assert_eq!(moment("yesterday"), None);
    }
}
