//! What the operating system hands over, and how it is told things back.

pub mod agent_user;
pub mod drain_file;
pub mod inherited;
pub mod memory;
pub mod notify;
pub mod own_name;
pub mod process;
pub mod slot;
pub mod stdio;
pub mod syslog;
pub mod terminal;
pub mod threads;
