//! What has to hold for whatever a peer answers.

use std::sync::Arc;
use std::time::SystemTime;

use super::memory::Memory;
use super::statement;
use crate::instance::{MAX_STANDBYS, Role};

/// An answer's body.
pub(crate) fn peer(bytes: &[u8]) {
    let Ok(said) = statement::read(bytes) else { return };
    assert!(said.role.is_none() || said.system_identifier.is_some(), "a role is of a system");
    assert!(said.role != Some(Role::Primary) || said.timeline.is_some(), "a primary is on a timeline");
    let texts = [Some(&said.name), said.slot.as_ref(), said.application_name.as_ref(), Some(&said.agent)];
    for text in texts.into_iter().flatten() {
        assert!(text.chars().count() <= 64, "{text:?}");
    }
    assert!(!said.name.contains(char::is_control), "{said:?}");
    assert!(said.standbys.as_ref().is_none_or(|standbys| standbys.len() <= MAX_STANDBYS));
    let mut memory = Memory::default();
    memory.hear(&Arc::new(said.clone()), SystemTime::UNIX_EPOCH);
    assert_eq!(memory.claim.map(|claim| claim.timeline), said.timeline);
    let is_rival = said.role == Some(Role::Primary) && said.draining != Some(true);
    assert_eq!(memory.rival.is_some(), is_rival);
    // Nothing that a node says of itself can be read twice in two ways.
    assert_eq!(statement::read(bytes), Ok(said));
}
