//! The `pgsqlchk` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgsqlchk::run(std::env::args_os())
}
