//! The history while it is being written, shared by all threads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::history::{Answer, At, Calm, Deaf, History, Life, Moved, Node, Reading, Role, Span};

/// The history, and the clock it goes by.
pub struct Record {
    began: Instant,
    history: Mutex<History>,
    story: Mutex<Vec<(At, String)>>,
}

impl Record {
    /// Nothing has happened yet.
    pub fn new() -> Record {
        Record { began: Instant::now(), history: Mutex::default(), story: Mutex::default() }
    }

    /// Now.
    pub fn now(&self) -> At {
        self.began.elapsed()
    }

    /// To write something down, or to read.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what happens, for whoever reads the findings.
    pub fn tell(&self, what: String) {
        let now = self.now();
        self.story.lock().unwrap_or_else(PoisonError::into_inner).push((now, what));
    }

    /// What had been told last at this moment.
    pub fn chapter(&self, at: At) -> String {
        let story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<&str> =
            story.iter().filter(|(then, _)| *then <= at).map(|(_, what)| what.as_str()).collect();
        before[before.len().saturating_sub(3)..].join("; ")
    }

    /// A server is about to be started as this.
    pub fn born(&self, node: Node, born: Role) {
        let span = Span { node, from: self.now(), until: None };
        self.lock().lives.push(Life { span, born, promoted: None });
    }

    /// All its processes have ended.
    pub fn died(&self, node: Node) {
        let now = self.now();
        if let Some(life) = self.lock().lives.iter_mut().rfind(|life| life.span.node == node) {
            life.span.until.get_or_insert(now);
        }
    }

    /// What a server has just said of itself.
    pub fn saw(&self, reading: Reading) {
        self.lock().readings.push(reading);
    }

    /// An agent is about to be started.
    pub fn agent_begins(&self, node: Node) {
        let now = self.now();
        self.lock().beginnings.push((node, now));
    }

    /// An agent's process has ended by itself.
    pub fn died_agent(&self, node: Node, is_allowed: bool) {
        let now = self.now();
        self.tell(format!("the agent of node {node} died"));
        let mut history = self.lock();
        history.deaths += 1;
        if !is_allowed {
            history.defects.push((now, format!("node {node}: the agent died")));
        }
    }

    /// A standby is about to be told to become a primary.
    pub fn promoted(&self, node: Node) {
        let now = self.now();
        if let Some(life) = self.lock().lives.iter_mut().rfind(|life| life.span.node == node) {
            life.promoted.get_or_insert(now);
        }
    }

    /// The answers of this node have to be right from now on.
    pub fn calm(&self, node: Node, from: At, role: Role, grace: Duration) {
        self.lock().calms.push(Calm { span: Span { node, from, until: None }, role, grace });
    }

    /// They need not be right any more.
    pub fn trouble(&self, node: Node) {
        let now = self.now();
        let mut history = self.lock();
        if let Some(calm) = history.calms.iter_mut().rfind(|calm| calm.span.node == node) {
            calm.span.until.get_or_insert(now);
        }
    }

    /// Its logins are not refused any more, and for so long it may not try.
    pub fn rests(&self, node: Node, rest: Duration) {
        let now = self.now();
        self.lock().rests.push(Span { node, from: now, until: Some(now + rest) });
    }

    /// From now on this agent cannot answer.
    pub fn mute(&self, node: Node) {
        let now = self.now();
        self.lock().muted.push(Span { node, from: now, until: None });
    }

    /// Now it can again.
    pub fn unmute(&self, node: Node) {
        let now = self.now();
        close(&mut self.lock().muted, node, now);
    }

    /// The postmaster stands still.
    pub fn froze(&self, node: Node) {
        let now = self.now();
        self.lock().frozen.push(Span { node, from: now, until: None });
    }

    /// It is about to go on.
    pub fn thaws(&self, node: Node) {
        let now = self.now();
        close(&mut self.lock().frozen, node, now);
    }

    /// New clients have been refused, and will be.
    pub fn closed(&self, node: Node) {
        let now = self.now();
        self.lock().closed.push(Span { node, from: now, until: None });
    }

    /// They are about to be let in again.
    pub fn opens(&self, node: Node) {
        let now = self.now();
        close(&mut self.lock().closed, node, now);
    }

    /// The agent is about to lose its way to the server.
    pub fn cuts_off(&self, node: Node) {
        let now = self.now();
        self.lock().cut_off.push(Span { node, from: now, until: None });
    }

    /// It has it again.
    pub fn rejoined(&self, node: Node) {
        let now = self.now();
        close(&mut self.lock().cut_off, node, now);
    }

    /// The way to another server is about to be laid.
    pub fn moves(&self, node: Node, there: Node) {
        let possible = Span { node, from: self.now(), until: None };
        self.lock().moved.push(Moved { there, possible, certain: None });
    }

    /// It was laid.
    pub fn has_moved(&self, node: Node) {
        let certain = Span { node, from: self.now(), until: None };
        self.change_move(node, |moved| moved.certain = Some(certain));
    }

    /// It is about to be taken away.
    pub fn moves_back(&self, node: Node) {
        let now = self.now();
        self.change_move(node, |moved| {
            moved.certain.iter_mut().for_each(|certain| certain.until = Some(now));
        });
    }

    /// It has been taken away.
    pub fn moved_back(&self, node: Node) {
        let now = self.now();
        self.change_move(node, |moved| moved.possible.until = Some(now));
    }

    fn change_move(&self, node: Node, change: impl FnOnce(&mut Moved)) {
        if let Some(moved) = self.lock().moved.iter_mut().rfind(|moved| moved.possible.node == node) {
            change(moved);
        }
    }

    /// From now on this agent hears nothing that the other one says.
    pub fn deafen(&self, listener: Node, speaker: Node) {
        let now = self.now();
        self.lock().deaf.push(Deaf { listener, speaker, from: now, until: None });
    }

    /// It hears it again.
    pub fn hears(&self, listener: Node, speaker: Node) {
        let now = self.now();
        let mut history = self.lock();
        // Two faults may stand between the same two; each closes its own.
        let is_it =
            |deaf: &&mut Deaf| (deaf.listener, deaf.speaker) == (listener, speaker) && deaf.until.is_none();
        if let Some(deaf) = history.deaf.iter_mut().rfind(is_it) {
            deaf.until = Some(now);
        }
    }

    /// Whether somebody was told this, and on a primary that writes may come, as answer to a question that began after `since`.
    pub fn has_answered(&self, node: Node, role: Role, since: At) -> bool {
        let is_it = |answer: &&Answer| answer.node == node && answer.begun >= since && answer.is_wholly(role);
        // Answers stand in the order of their ends, so the newest are at the end.
        self.lock()
            .answers
            .iter()
            .rev()
            .take_while(|answer| answer.ended >= since)
            .any(|answer| is_it(&answer))
    }
}

fn close(spans: &mut [Span], node: Node, now: At) {
    if let Some(span) = spans.iter_mut().rfind(|span| span.node == node) {
        span.until.get_or_insert(now);
    }
}
