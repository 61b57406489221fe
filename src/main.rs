//! The `pgsqlchk` binary.
fn main() {}
