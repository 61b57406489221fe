//! The log: simple_logger on stderr, or the local syslog, behind a queue.
//!
//! Writing to stderr can block (a full pipe that nobody reads) and can panic (a pipe that is closed). Neither may
//! touch an answer, so one thread of its own writes, and whoever logs only puts a line into a bounded queue.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use crate::config::LogTarget;
use crate::panics;
use crate::system::slot::{Giver, slot};
use crate::system::syslog::Syslog;
use crate::system::threads;

/// Lines that may wait for a slow stderr; later ones are dropped, for the log must not grow without bound.
const QUEUE_LINES: usize = 256;

/// Of the thread that writes.
const STACK_BYTES: usize = 128 * 1024;

/// How long [`flush`] waits for a stderr that does not take anything.
const FLUSH_LIMIT: Duration = Duration::from_millis(50);

enum Entry {
    Line { level: Level, target: String, text: String },
    Flush(Giver<()>),
}

struct QueueLogger {
    queue: SyncSender<Entry>,
}

impl Log for QueueLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target().starts_with("tiny_http") {
            // The only thing that its threads ask of us.
            panics::trip("tiny_http");
        }
        // Only our own lines: the driver logs every query, tiny_http reports the end of its accept loop, which
        // is ended on purpose, as an error.
        metadata.level() <= log::max_level() && metadata.target().starts_with("pgsqlchk")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = self.queue.try_send(Entry::Line {
                level: record.level(),
                target: record.target().to_owned(),
                text: record.args().to_string(),
            });
        }
    }

    fn flush(&self) {
        let (done, wait) = slot();
        let deadline = Instant::now() + FLUSH_LIMIT;
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = wait.take(Some(deadline));
        }
    }
}

/// Installs the logger, and from then on decides about panics. Call once. Where no syslog listens, the log goes to stderr and
/// begins with a line that says so; in xinetd mode nobody sees that, as stderr is /dev/null there.
pub fn start(level: LevelFilter, target: LogTarget) -> Result<(), String> {
    let mut sink = match target {
        LogTarget::Stderr => Sink::stderr(),
        LogTarget::None => Sink::None,
        LogTarget::Syslog => match Syslog::open() {
            Ok(syslog) => Sink::Syslog(syslog),
            Err(error) => {
                let mut sink = Sink::stderr();
                let warning = format!("no syslog at /dev/log ({error}): the log goes to stderr");
                sink.write(Level::Warn, "pgsqlchk", &warning);
                sink
            }
        },
    };

    let (queue, entries) = sync_channel(QUEUE_LINES);
    threads::spawn(panics::LOG_THREAD, STACK_BYTES, move || write_entries(&entries, &mut sink))
        .map_err(|error| format!("cannot start a thread for the log: {error}"))?;
    log::set_boxed_logger(Box::new(QueueLogger { queue }))
        .map_err(|error| format!("cannot start the log: {error}"))?;
    log::set_max_level(level);
    panics::decide_from_now_on();
    Ok(())
}

/// Waits, for a moment at most, until everything logged so far is written.
pub fn flush() {
    log::logger().flush();
}

enum Sink {
    Stderr(SimpleLogger),
    Syslog(Syslog),
    None,
}

impl Sink {
    fn stderr() -> Sink {
        Sink::Stderr(SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps())
    }

    fn write(&mut self, level: Level, target: &str, text: &str) {
        match self {
            // eprintln! panics when stderr is a closed pipe; the log is lost then, the agent is not.
            Sink::Stderr(logger) => drop(panics::contain(|| {
                panics::trip("writing");
                logger
                    .log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
            })),
            // There is nobody left to tell.
            Sink::Syslog(syslog) => drop(syslog.send(level, text)),
            Sink::None => {}
        }
    }
}

fn write_entries(entries: &Receiver<Entry>, sink: &mut Sink) {
    while let Ok(entry) = entries.recv() {
        panics::trip("log");
        match entry {
            Entry::Line { level, target, text } => {
                sink.write(level, &target, &text.replace(['\r', '\n'], " "));
            }
            Entry::Flush(done) => {
                done.give(());
            }
        }
    }
}
