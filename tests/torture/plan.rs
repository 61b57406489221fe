//! Which fault comes next. Pure: the same seed gives the same faults.

use std::time::Duration;

/// splitmix64: small, and good enough to draw lots.
#[derive(Clone, Debug)]
pub struct Lots(u64);

impl Lots {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Lots {
        Lots(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).unwrap_or(0)]
    }
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for the sessions, one of which stays until the fault ends; then fast.
    Smart,
    /// Ends the sessions.
    Fast,
    /// Ends everything.
    Immediate,
    /// SIGKILL of the postmaster.
    Kill,
}

/// What can be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The one that accepts sessions.
    Postmaster,
    /// The agent's own backend.
    Session,
    /// On a standby; on a primary the WAL writer.
    WalReceiver,
    /// The checkpointer.
    Checkpointer,
    /// Postmaster and session.
    Both,
}

/// What happens to packets of the agent on their way to PostgreSQL over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// They vanish.
    Dropped,
    /// An ICMP message comes back.
    Rejected,
    /// The connection is reset.
    Reset,
}

/// What bounds the agent's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// `RLIMIT_AS`.
    AddressSpace,
    /// `RLIMIT_DATA`.
    Data,
    /// A control group, which ends the process rather than refuse it memory.
    Group,
}

/// What an administrator's script does to the agent's sessions, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pest {
    /// `pg_cancel_backend()`.
    Cancels,
    /// `pg_terminate_backend()`.
    Terminates,
}

/// How two nodes come to be primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// A standby is promoted past its primary, which goes on.
    LeftRunning,
    /// The primary stops, a standby is promoted, and the old primary comes back as it was.
    Returns,
    /// A standby is promoted past its primary; afterwards it is the promoted one that is given up.
    GivenUp,
    /// The primary stops, and both standbys are promoted at once.
    Rivals,
}

/// What happens to agents and the ways between them while two nodes are primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// They hear each other from the beginning.
    Nothing,
    /// The agent that is witness against the other primary is frozen once it has been heard.
    WitnessFrozen,
    /// It ends, and is started again when the fault ends.
    WitnessDies,
    /// The way between them is cut, and mended when the fault ends.
    Severed(Way),
    /// Somebody answers the one that has to hear in the place of the other one.
    Posed(Guise),
}

/// What is lost between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What one agent asks the other one; it is still asked itself.
    Questions,
    /// All packets from one to the other.
    Forth,
    /// All packets.
    Both,
}

/// Who answers in a peer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guise {
    /// The agent itself, half a deadline later.
    Slow,
    /// Somebody who answers with what is none.
    Junk,
    /// The agent of a primary of another cluster.
    Foreign,
    /// Nobody who says anything.
    Silent,
}

/// Another node, as seen from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The one after it.
    Next,
    /// The one before it.
    Last,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server stops, and starts again when the fault ends.
    Down(Stop),
    /// A stop and a start at once.
    Restart(Stop),
    /// SIGKILL of the agent's backend: the server restarts all of them.
    KillBackend,
    /// The agent's session is ended by an administrator.
    TerminateSession,
    /// SIGSTOP until the fault ends.
    Freeze(Process),
    /// The primary stops, a standby becomes the primary, and the old one is rebuilt as a standby.
    Failover(Stop, Other),
    /// Two nodes are primaries; afterwards one of them is rebuilt as a standby.
    Split(Split, Other, Meanwhile),
    /// Nothing but the way to another node is lost.
    Severed(Way, Other),
    /// Somebody answers in the place of another node's agent.
    Posed(Guise, Other),
    /// All sessions that the agent's role could have are taken; its own is ended if the flag says so.
    Full(bool),
    /// pg_hba.conf refuses the agent's role, and its session is ended if the flag says so.
    Refused(bool),
    /// pg_hba.conf refuses everybody but superusers, and the agent's session is ended if the flag says so.
    RefusedAll(bool),
    /// The agents' role may not log in, and their sessions are ended if the flag says so.
    NoLogin(bool),
    /// The agents' role may have no sessions, and those that it has are ended if the flag says so.
    ConnectionLimit(bool),
    /// No new session can load its libraries.
    Unloadable,
    /// Logins hang.
    LoginsHang,
    /// The agent's sessions are hit all the time.
    Pestered(Pest),
    /// New connections to the server's address reach another server; those that are open stay.
    Moved,
    /// The role's password is another one, and its session is ended if the flag says so.
    Password(bool),
    /// The socket file has gone.
    SocketGone,
    /// No space is left for data and log.
    DiskFull,
    /// The way to PostgreSQL over TCP.
    Network(Packets),
    /// The node's link is down: neither replication nor clients.
    LinkDown,
    /// The name server does not answer; the agent's session is ended, so that it has to ask.
    NoDns,
    /// The clock of agent and server jumps by this many seconds, and back.
    ClockStep(i32),
    /// A host with many clients of the agent's vanishes: the agent never hears of them again.
    HalfOpen,
    /// SIGSTOP of the agent.
    AgentFrozen,
    /// SIGTERM of the agent, and a new one.
    AgentRestart,
    /// No new descriptors for the agent.
    AgentDescriptors,
    /// No new threads for the agent, while its backend hangs.
    AgentThreads,
    /// No new memory for the agent, while it needs a new session.
    AgentMemory(Memory),
    /// The file system of the WAL is frozen.
    WalFrozen,
    /// SIGSTOP of the pooler.
    PoolerFrozen,
    /// SIGKILL of the pooler, and a new one.
    PoolerKilled,
}

impl Fault {
    /// Whether both doing and undoing it need nothing of another node, and nothing that there is only once.
    pub fn bears_company(self) -> bool {
        match self {
            Fault::Failover(..)
            | Fault::Split(..)
            | Fault::Password(_)
            | Fault::NoLogin(_)
            | Fault::ConnectionLimit(_)
            | Fault::LoginsHang
            | Fault::Moved
            | Fault::DiskFull
            | Fault::HalfOpen => false,
            Fault::Down(_)
            | Fault::Restart(_)
            | Fault::KillBackend
            | Fault::TerminateSession
            | Fault::Freeze(_)
            | Fault::Full(_)
            | Fault::Refused(_)
            | Fault::RefusedAll(_)
            | Fault::Unloadable
            | Fault::Pestered(_)
            | Fault::SocketGone
            | Fault::Network(_)
            | Fault::LinkDown
            | Fault::Severed(..)
            | Fault::Posed(..)
            | Fault::NoDns
            | Fault::ClockStep(_)
            | Fault::AgentFrozen
            | Fault::AgentRestart
            | Fault::AgentDescriptors
            | Fault::AgentThreads
            | Fault::AgentMemory(_)
            | Fault::WalFrozen
            | Fault::PoolerFrozen
            | Fault::PoolerKilled => true,
        }
    }
}

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The primary.
    Primary,
    /// The standby that comes after it.
    Standby,
    /// The other one.
    OtherStandby,
}

/// A fault, where, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub fault: Fault,
    /// Where.
    pub seat: Seat,
    /// For how long.
    pub hold: Duration,
}

/// The longest time a fault holds.
pub const LONGEST_HOLD_MS: u64 = 2500;

const WAYS: [Way; 3] = [Way::Questions, Way::Forth, Way::Both];
const GUISES: [Guise; 4] = [Guise::Slow, Guise::Junk, Guise::Foreign, Guise::Silent];

const STOPS: [Stop; 4] = [Stop::Smart, Stop::Fast, Stop::Immediate, Stop::Kill];

/// Draws faults for ever.
pub struct Plan {
    lots: Lots,
}

impl Plan {
    /// The faults of this seed.
    pub fn new(seed: u64) -> Plan {
        Plan { lots: Lots::new(seed) }
    }

    /// The next fault; at times with another one, which happens to another node meanwhile.
    pub fn draw(&mut self) -> Vec<Step> {
        let first = self.draw_one();
        let mut steps = vec![first];
        if self.lots.below(3) == 0 {
            let second = Step { hold: first.hold, ..self.draw_one() };
            if first.seat != second.seat && first.fault.bears_company() && second.fault.bears_company() {
                steps.push(second);
            }
        }
        steps
    }

    fn draw_one(&mut self) -> Step {
        let lots = &mut self.lots;
        // Both the flag and a choice of three.
        let lot = lots.below(6);
        let flag = lot.is_multiple_of(2);
        let other = lots.pick(&[Other::Next, Other::Last]);
        let fault = match lots.below(38) {
            0 => Fault::Down(lots.pick(&STOPS)),
            1 => Fault::Restart(lots.pick(&STOPS)),
            2 => Fault::KillBackend,
            3 => Fault::TerminateSession,
            4 | 5 => Fault::Freeze(lots.pick(&[
                Process::Postmaster,
                Process::Session,
                Process::WalReceiver,
                Process::Checkpointer,
                Process::Both,
            ])),
            6 => Fault::Failover(lots.pick(&[Stop::Fast, Stop::Kill]), other),
            7 => Fault::Full(flag),
            8 => Fault::Refused(flag),
            9 => Fault::Password(flag),
            10 => Fault::SocketGone,
            11 => Fault::DiskFull,
            12 => Fault::Network(lots.pick(&[Packets::Dropped, Packets::Rejected, Packets::Reset])),
            13 => Fault::LinkDown,
            14 => Fault::NoDns,
            15 => Fault::ClockStep(lots.pick(&[-86_400, -60, -2, 2, 60, 86_400])),
            16 => Fault::AgentFrozen,
            17 => Fault::AgentRestart,
            18 => lots.pick(&[Fault::AgentDescriptors, Fault::AgentThreads]),
            19 => Fault::AgentMemory(match lot / 2 {
                0 => Memory::AddressSpace,
                1 => Memory::Data,
                _ => Memory::Group,
            }),
            20 => Fault::HalfOpen,
            21 => Fault::RefusedAll(flag),
            22 => Fault::NoLogin(flag),
            23 => Fault::ConnectionLimit(flag),
            24 => Fault::Unloadable,
            25 => Fault::LoginsHang,
            26 => Fault::Pestered(lots.pick(&[Pest::Cancels, Pest::Terminates])),
            // The one in which nothing but the answer changes.
            27 => Fault::Down(Stop::Smart),
            28 => Fault::Moved,
            29 | 30 => Fault::Severed(lots.pick(&WAYS), other),
            31 => Fault::Posed(lots.pick(&GUISES), other),
            32 | 33 => Fault::WalFrozen,
            34 => Fault::PoolerFrozen,
            35 => Fault::PoolerKilled,
            _ => Fault::Split(
                lots.pick(&[Split::LeftRunning, Split::Returns, Split::GivenUp, Split::Rivals]),
                other,
                match lots.below(5) {
                    0 => Meanwhile::Nothing,
                    1 => Meanwhile::WitnessFrozen,
                    2 => Meanwhile::WitnessDies,
                    3 => Meanwhile::Severed(lots.pick(&WAYS)),
                    _ => Meanwhile::Posed(lots.pick(&GUISES)),
                },
            ),
        };
        // Half of them are shorter than a deadline.
        let hold = if lots.below(2) == 0 { lots.below(500) } else { lots.below(LONGEST_HOLD_MS) };
        // The primary as often as both standbys.
        let seat =
            if lots.below(2) == 0 { Seat::Primary } else { lots.pick(&[Seat::Standby, Seat::OtherStandby]) };
        Step { fault, seat, hold: Duration::from_millis(hold) }
    }
}
