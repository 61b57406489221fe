//! The timeline of a standby whose WAL receiver is gone. Pure.

use super::{Role, Sighting};

/// The highest timeline that a postmaster was seen on. It never goes back to a lower one without a restart; but when its
/// sender ends, all that a standby shows any more is where its last restartpoint was, which may have been long ago.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeenTimeline(Option<(f64, u32)>);

impl SeenTimeline {
    /// Raises what was seen now to what was seen before, where both are of one postmaster.
    pub(super) fn raise(&mut self, sighting: &mut Sighting) {
        let started = sighting.identity.map(|identity| identity.postmaster_started_unix_s);
        let Some((started, timeline)) = started.zip(sighting.timeline) else { return };
        let before = self.0.filter(|(same, _)| *same == started && sighting.role == Role::Standby);
        let highest = before.map_or(timeline, |(_, before)| before.max(timeline));
        sighting.timeline = Some(highest);
        self.0 = Some((started, highest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Identity;

    fn raised(seen: &mut SeenTimeline, role: Role, started: f64, timeline: Option<u32>) -> Option<u32> {
        let identity =
            Identity { system_identifier: 7, postmaster_started_unix_s: started, primary_timeline: None };
        let mut sighting = Sighting { timeline, identity: Some(identity), ..Sighting::of_role(role) };
        seen.raise(&mut sighting);
        sighting.timeline
    }

    #[test]
    fn only_a_restart_leads_back() {
        let mut seen = SeenTimeline::default();
        assert_eq!(raised(&mut seen, Role::Standby, 1.5, Some(2)), Some(2));
        assert_eq!(raised(&mut seen, Role::Standby, 1.5, Some(1)), Some(2));
        assert_eq!(raised(&mut seen, Role::Standby, 1.5, None), None, "nobody asked");
        assert_eq!(raised(&mut seen, Role::Standby, 1.5, Some(1)), Some(2));
        assert_eq!(raised(&mut seen, Role::Standby, 2.5, Some(1)), Some(1));
        assert_eq!(raised(&mut seen, Role::Primary, 2.5, Some(2)), Some(2));
    }
}
