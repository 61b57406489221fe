//! pgsqlchk tells whoever asks over HTTP what the PostgreSQL instance on this host is right now.

pub mod cli;
pub mod config;
