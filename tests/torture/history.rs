//! What is written down while the campaign runs. All times are monotonic, counted from its beginning.

use std::time::Duration;

/// A moment of the campaign.
pub type At = Duration;

/// The number of a node: 0, 1 or 2.
pub type Node = usize;

/// What a server can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes.
    Primary,
    /// Follows.
    Standby,
}

/// What other nodes have seen that makes an agent refuse writes to a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// One was seen on a higher timeline.
    Superseded,
    /// One was seen to be a primary on the same timeline.
    TwoPrimaries,
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// 200, 206, or a 503 that names the role which does not hold, such as `in-recovery`.
    Is(Role),
    /// `No:`, of a primary: it is one, and gets no writes.
    Refused(Against),
    /// `Down:` and the reason.
    Unverified(String),
    /// No complete reply.
    Nothing(String),
    /// `200 Alive`, which says nothing of a server.
    Alive,
    /// Something that is no answer to what was asked.
    Odd(String),
}

/// What an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The server, and whether clients can work there.
    Role,
    /// The server.
    Health,
    /// Nothing.
    Liveness,
}

/// One question and its answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose agent.
    pub node: Node,
    /// What kind of path was asked.
    pub asked: Asked,
    /// Before the connect.
    pub begun: At,
    /// After the end of the connection.
    pub ended: At,
    /// The answer.
    pub said: Said,
    /// Whether it was 200 on a path by which writes are sent to a node.
    pub takes_writes: bool,
}

impl Answer {
    /// Whether this node was told to be all that this role means: of a primary, that writes may come.
    pub fn is_wholly(&self, role: Role) -> bool {
        self.said == Said::Is(role) && (self.takes_writes || role == Role::Standby)
    }
}

/// A stretch of time; still open where it has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// On which node.
    pub node: Node,
    /// Its beginning.
    pub from: At,
    /// Its end.
    pub until: Option<At>,
}

/// A server from before its start until all its processes had ended. Within it the role changes once at most, from
/// standby to primary.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// When.
    pub span: Span,
    /// As what it was started.
    pub born: Role,
    /// When it was first told to become a primary.
    pub promoted: Option<At>,
}

/// A stretch of time in which a node's address leads new connections to another server. To lay such a way and to take it
/// away takes a while, in which nobody knows where they go.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// Whose server they reach.
    pub there: Node,
    /// Earlier and later none goes there.
    pub possible: Span,
    /// All go there; `None` until that is certain.
    pub certain: Option<Span>,
}

/// What PostgreSQL itself said to the observer.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Which server.
    pub node: Node,
    /// Before the question, in a session that was new.
    pub begun: At,
    /// After the answer.
    pub ended: At,
    /// The role.
    pub role: Role,
    /// On a primary the timeline it writes on, on a standby the highest that it is known to be on.
    pub timeline: u32,
    /// How many sessions the agent had.
    pub sessions: usize,
}

/// What a client did who wanted to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// Before it began.
    pub begun: At,
    /// After it had come to an end, whichever.
    pub ended: At,
    /// Whether it did what was wanted.
    pub is_good: bool,
}

/// What one client on each node did, one try after the other.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    of: [Vec<Try>; 3],
}

impl Tries {
    /// It has come to an end.
    pub fn push(&mut self, node: Node, tried: Try) {
        self.of[node].push(tried);
    }

    /// Those that ended then or later.
    pub fn since(&self, node: Node, at: At) -> &[Try] {
        let own = &self.of[node];
        &own[own.partition_point(|tried| tried.ended < at)..]
    }
}

/// A stretch of time in which one agent cannot hear another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deaf {
    /// Beside whom the agent that asks is.
    pub listener: Node,
    /// Whom it asks in vain.
    pub speaker: Node,
    /// Its beginning.
    pub from: At,
    /// Its end.
    pub until: Option<At>,
}

/// A time in which the answers have to be right: no fault concerns the node, and a new session of the agent's role
/// has shown so at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    /// When.
    pub span: Span,
    /// What is right.
    pub role: Role,
    /// So much longer than usual it may take to be right again: an agent whose logins were refused rests between them.
    pub grace: Duration,
}

/// What an agent held while nobody asked it and no fault was left.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose agent.
    pub node: Node,
    /// Its process: another process is another beginning.
    pub pid: u32,
    /// When.
    pub at: At,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Resident memory.
    pub resident_kib: u64,
    /// Its sessions in the server, without the one that commits.
    pub sessions: u64,
    /// Sessions that commit. There is one beside a primary.
    pub writing: u64,
}

impl Sample {
    /// Whether this is the same process, with as many sessions that commit.
    pub fn is_like(&self, other: &Sample) -> bool {
        (self.pid, self.writing) == (other.pid, other.writing)
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By all clients.
    pub answers: Vec<Answer>,
    /// In their order, for each node.
    pub lives: Vec<Life>,
    /// By the observers, and by the campaign itself once a server has started or was promoted.
    pub readings: Vec<Reading>,
    /// Commits, for each server. On a standby they fail.
    pub commits: Tries,
    /// Questions to the pooler itself.
    pub calls: Tries,
    /// Frozen postmasters: no new session is possible, so no role may be told.
    pub frozen: Vec<Span>,
    /// Servers that let no new client in, for a reason that is not the agent's alone: one was refused before the
    /// beginning and after the end.
    pub closed: Vec<Span>,
    /// Agents whose way to their server is lost, or the name that they look up; observers have another way, or a session
    /// that they keep.
    pub cut_off: Vec<Span>,
    /// Nodes whose address leads new connections to another server.
    pub moved: Vec<Moved>,
    /// Agents between which the way is cut, or where somebody else answers in a peer's place.
    pub deaf: Vec<Deaf>,
    /// When an agent's process began: it remembers nothing of what its peers had said before.
    pub beginnings: Vec<(Node, At)>,
    /// Agents that may not log in anew although they have a session: they were refused logins that may have concerned them
    /// alone, and rest between those.
    pub rests: Vec<Span>,
    /// Agents that cannot answer: frozen, restarting, or deprived of what they need.
    pub muted: Vec<Span>,
    /// Calm times.
    pub calms: Vec<Calm>,
    /// Agents at rest.
    pub samples: Vec<Sample>,
    /// What was noticed on the way: HAProxy did not come to the right view of the servers, an agent died.
    pub defects: Vec<(At, String)>,
    /// How many agents died, and had to be started again.
    pub deaths: usize,
    /// When the machine gave the campaign's own metronome no processor for a while.
    pub stalls: Vec<(At, At)>,
}
