//! A moment, and how it is spelled.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use time::{Duration, OffsetDateTime};

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Moment(OffsetDateTime);

impl Moment {
    /// `None` where a clock is off by thousands of years.
    pub(super) fn of(time: SystemTime) -> Option<Moment> {
        let (seconds, sign) = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (after.as_secs_f64(), 1.0),
            Err(before) => (before.duration().as_secs_f64(), -1.0),
        };
        Moment::of_unix_seconds(seconds * sign)
    }

    /// The same for seconds since 1970.
    pub(super) fn of_unix_seconds(seconds: f64) -> Option<Moment> {
        let time = OffsetDateTime::UNIX_EPOCH.checked_add(Duration::checked_seconds_f64(seconds)?)?;
        // RFC 3339 has four digits for the year.
        (0..=9999).contains(&time.year()).then_some(Moment(time))
    }

    /// RFC 3339, to the millisecond.
    pub(super) fn rfc_3339(self) -> String {
        let (year, month, day) = (self.0.year(), u8::from(self.0.month()), self.0.day());
        format!("{year:04}-{month:02}-{day:02}T{}.{:03}Z", self.clock(), self.0.millisecond())
    }

    /// `14:05:09`.
    pub(super) fn clock(self) -> String {
        format!("{:02}:{:02}:{:02}", self.0.hour(), self.0.minute(), self.0.second())
    }

    /// `3 Nov`.
    pub(super) fn day(self) -> String {
        format!("{} {:.3}", self.0.day(), self.0.month().to_string())
    }

    /// `3 Nov, 14:05:09`.
    pub(super) fn day_and_clock(self) -> String {
        format!("{}, {}", self.day(), self.clock())
    }

    /// `3 Nov 2026`.
    pub(super) fn date(self) -> String {
        format!("{} {:04}", self.day(), self.0.year())
    }

    /// Seconds from `earlier` to this one; zero where the clock was set back.
    pub(super) fn seconds_since(self, earlier: Moment) -> f64 {
        (self.0 - earlier.0).as_seconds_f64().max(0.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc_3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_spelled_as_people_and_programs_read_it() {
        let moment = Moment::of_unix_seconds(1_793_714_709.25).unwrap();
        assert_eq!(moment.rfc_3339(), "2026-11-03T14:05:09.250Z");
        assert_eq!(moment.day_and_clock(), "3 Nov, 14:05:09");
        assert_eq!(moment.date(), "3 Nov 2026");
        assert_eq!(Moment::of_unix_seconds(-0.5).unwrap().rfc_3339(), "1969-12-31T23:59:59.500Z");
        assert_eq!(Moment::of_unix_seconds(1e15).map(Moment::rfc_3339), None);
    }
}
