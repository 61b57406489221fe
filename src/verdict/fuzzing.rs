//! What has to hold for whatever is asked.

use std::time::Duration;

use super::{Limits, Mode, Otherwise, Path, Standing, Tag, Target, TargetError, origin_form};
use crate::fuzzing::wire;
use crate::reply::HttpReply;

/// A request target, as the gate lets it through.
pub(crate) fn target(bytes: &[u8]) {
    let text: String =
        bytes.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    let origin = origin_form(&text);
    assert_eq!(origin_form(&origin), origin, "the origin form is final");
    assert_eq!(Target::parse(&origin), Target::parse(&text), "and means the same");
    assert_rules(&text);
    match Target::parse(&text) {
        Ok(target) => assert_target(target),
        Err(error) => {
            let reply = HttpReply::of_target_error(&error).to_bytes(false);
            let (status, _) = wire::read_line_reply(&reply);
            assert_eq!(status, if error == TargetError::UnknownPath { 404 } else { 400 });
        }
    }
}

fn assert_target(target: Target) {
    let can_be_limited = target.path.takes_limits() || target.path == Path::Readiness;
    let plain = Target { otherwise: target.otherwise, ..Target::plain(target.path) };
    assert!(can_be_limited || target == plain, "{target:?}");
    assert!(target.otherwise == Otherwise::Down || target.path.is_drained(), "{target:?}");
    assert_eq!(Target::parse(&spell(target)), Ok(target), "what was understood can be said again");

    let standing = Limits { bytes: Some(1), time: Some(Duration::from_micros(1)) };
    let limited = target.limited_by(standing);
    let is_tighter = |limit: Option<Duration>, than: Option<Duration>| match (limit, than) {
        (Some(limit), Some(than)) => limit <= than,
        (None, Some(_)) => false,
        (_, None) => true,
    };
    assert!(is_tighter(limited.limits.time, target.limits.time), "limits only grow tighter");
    assert_eq!(limited.limited_by(standing), limited);
    assert!(target.path == Path::Readiness || target.mode == Mode::Apply, "{target:?}");
    let asks_lag = target.needs().is_some_and(|needs| needs.replication && needs.recovery);
    assert!(asks_lag || !target.limits.is_some() && !target.wants_streaming, "{target:?}");
    let asks_replay = target.needs().is_some_and(|needs| needs.recovery && needs.replay_delay);
    assert!(asks_replay || !target.wants_running_replay, "{target:?}");
}

/// The administrator's rules change nothing of what is known and what is not, but of what `/` takes.
fn assert_rules(text: &str) {
    let rules = Standing {
        root: Path::ReadOnly,
        tags: vec![Tag { name: "a".into(), value: "b".into() }],
        ..Standing::default()
    };
    match (Target::parse(text), rules.read(text)) {
        (Ok(plain), Ok(ruled)) if plain.path == Path::Contract => assert_eq!(ruled.path, Path::ReadOnly),
        (plain, ruled) => assert_eq!(plain.map(|target| target.path), ruled.map(|target| target.path)),
    }
}

fn spell(target: Target) -> String {
    let Limits { bytes, time } = target.limits;
    let is_readiness = target.path == Path::Readiness;
    let parameters = [
        bytes.map(|bytes| format!("lag={bytes}")),
        time.map(|time| format!("lag_time={}us", time.as_micros())),
        (target.wants_streaming && !is_readiness).then(|| "replication_state=streaming".to_owned()),
        (target.mode == Mode::Write).then(|| "mode=write".to_owned()),
        target.has_other_tag.then(|| "tag_a=b".to_owned()),
        target.wants_running_replay.then(|| "replay=running".to_owned()),
        (target.otherwise == Otherwise::Maint).then(|| "else=maint".to_owned()),
    ];
    let query: Vec<_> = parameters.into_iter().flatten().collect();
    format!("{}?{}", target.path.name(), query.join("&"))
}
