//! The lag of the last hour as a drawing: one step for each bucket, nothing where nobody asked.

use std::fmt::Write;

use super::super::words::bytes;
use crate::monitor::LagSample;

/// Width of a bucket and height of the drawing, in its own units.
const STEP: usize = 2;
const HEIGHT: f64 = 100.0;

/// The top is never lower, so that a few bytes do not look like a mountain.
const LEAST_TOP_BYTES: u64 = 1024 * 1024;

/// Draws the samples, the oldest first; `None` where nobody asked in all the time. The limit is drawn where it is
/// near enough.
pub(super) fn svg(samples: &[LagSample], limit: Option<u64>) -> Option<String> {
    let peak = samples.iter().filter_map(|sample| known(*sample)).max();
    let is_blind = samples.contains(&LagSample::Unknown);
    if peak.is_none() && !is_blind {
        return None;
    }
    let limit = limit.filter(|limit| limit / 4 <= peak.unwrap_or(0));
    let highest = peak.max(limit).unwrap_or(0).max(LEAST_TOP_BYTES);
    let top = highest.checked_next_power_of_two().unwrap_or(u64::MAX);
    let drawing = Drawing { top };
    let label = match peak {
        Some(peak) => format!("Replication lag of the last hour, {} at most", bytes(peak)),
        None => "Replication lag of the last hour, not known".into(),
    };
    let width = samples.len() * STEP;
    let mut html = format!(
        "<div class=\"plot\"><div class=\"scale\"><span>{}</span></div>\n\
         <svg viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">",
        bytes(top)
    );
    let (area, trace) = drawing.known(samples);
    let blind = drawing.unknown(samples);
    let limit_line = limit.map(|limit| format!("M0 {:.1}H{width}", drawing.height(limit)));
    for (class, path) in
        [("area", area), ("limit", limit_line.unwrap_or_default()), ("trace", trace), ("blind", blind)]
    {
        if !path.is_empty() {
            let _ = write!(html, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    html.push_str(
        "</svg>\n<div class=\"scale\"><span>1 h ago</span><span>30 min</span><span>now</span></div>\n",
    );
    html.push_str("<p class=\"note\">The most in each 10 seconds; nothing where nobody asked.");
    if is_blind {
        html.push_str(" Thick: could not be known.");
    }
    if let Some(limit) = limit {
        let _ = write!(html, " Dashed: the limit, {}.", bytes(limit));
    }
    html.push_str("</p></div>");
    Some(html)
}

fn known(sample: LagSample) -> Option<u64> {
    match sample {
        LagSample::Bytes(bytes) => Some(bytes),
        LagSample::NotAsked | LagSample::Unknown => None,
    }
}

struct Drawing {
    /// What the upper edge stands for, in bytes.
    top: u64,
}

impl Drawing {
    fn height(&self, bytes: u64) -> f64 {
        HEIGHT - HEIGHT * (bytes as f64 / self.top as f64)
    }

    /// The surface below the known samples, and the line above it.
    fn known(&self, samples: &[LagSample]) -> (String, String) {
        let (mut area, mut trace) = (String::new(), String::new());
        let mut is_open = false;
        for (index, sample) in samples.iter().enumerate() {
            let x = index * STEP;
            match known(*sample) {
                Some(bytes) => {
                    let y = self.height(bytes);
                    if is_open {
                        let _ = write!(area, "V{y:.1}h{STEP}");
                        let _ = write!(trace, "V{y:.1}h{STEP}");
                    } else {
                        let _ = write!(area, "M{x} {HEIGHT}V{y:.1}h{STEP}");
                        let _ = write!(trace, "M{x} {y:.1}h{STEP}");
                    }
                    is_open = true;
                }
                None if is_open => {
                    let _ = write!(area, "V{HEIGHT}Z");
                    is_open = false;
                }
                None => {}
            }
        }
        if is_open {
            let _ = write!(area, "V{HEIGHT}Z");
        }
        (area, trace)
    }

    /// A line along the ground.
    fn unknown(&self, samples: &[LagSample]) -> String {
        let mut path = String::new();
        for (index, _) in samples.iter().enumerate().filter(|(_, sample)| **sample == LagSample::Unknown) {
            let _ = write!(path, "M{} {HEIGHT}h{STEP}", index * STEP);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_drawn_where_somebody_asked_and_gaps_where_nobody_did() {
        use LagSample::{Bytes, NotAsked, Unknown};
        let half = LEAST_TOP_BYTES / 2;
        let samples = [NotAsked, Bytes(0), Bytes(half), NotAsked, Unknown, Bytes(LEAST_TOP_BYTES)];
        let html = svg(&samples, None).unwrap();
        assert!(html.contains("viewBox=\"0 0 12 100\""), "{html}");
        assert!(html.contains("class=\"trace\" d=\"M2 100.0h2V50.0h2M10 0.0h2\""), "{html}");
        assert!(html.contains("d=\"M2 100V100.0h2V50.0h2V100ZM10 100V0.0h2V100Z\""), "{html}");
        assert!(html.contains("class=\"blind\" d=\"M8 100h2\""), "{html}");
        assert_eq!(svg(&[NotAsked; 3], Some(1)), None);
    }

    #[test]
    fn the_limit_is_drawn_where_it_is_near() {
        let limit = 64 << 20;
        let drawn = |peak| svg(&[LagSample::Bytes(peak)], Some(limit)).unwrap().contains("class=\"limit\"");
        assert_eq!(
            [drawn(0), drawn(limit / 5), drawn(limit / 4), drawn(limit * 9)],
            [false, false, true, true]
        );
    }
}
