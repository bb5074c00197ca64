//! The time axis: time since the first event.

use jiff::{Timestamp, tz::TimeZone};

use crate::format::counted;

/// Maps moments to numbers of a unit since the first one. The unit depends on their span.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeAxis {
    start: Timestamp,
    /// The unit, in seconds.
    unit: f64,
    name: &'static str,
    /// The position of the last moment; more than 0.
    pub end: f64,
}

impl TimeAxis {
    /// The axis over these moments; `None` if there are none.
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

    /// The position of a moment.
    pub fn at(&self, moment: Timestamp) -> f64 {
        moment.duration_since(self.start).as_secs_f64() / self.unit
    }

    /// Converts units to seconds.
    pub fn seconds(&self, units: f64) -> f64 {
        units * self.unit
    }

    /// The label of the axis.
    pub fn title(&self) -> String {
        let start = self.start.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S");
        format!("{} since {start} UTC", self.name)
    }
}

/// Parses a time of a summary; `None` if it is malformed.
pub fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A note about the `count` events that are not in a chart; `None` for 0.
pub fn unreadable_times(count: usize) -> Option<String> {
    (count > 0).then(|| {
        let events = counted(count as u64, "event", "events");
        format!("Not in the chart: {events} with an unreadable time.")
    })
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
    fn one_moment_has_an_axis_and_no_moment_has_none() {
        assert!(axis("2026-11-25T10:00:00Z").end > 0.0);
        assert_eq!(TimeAxis::over([]), None);
        assert_eq!(moment("yesterday"), None);
    }
}
