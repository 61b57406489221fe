//! The `pgsqlchk` binary: arguments in, exit code out.
use std::process::ExitCode;

fn main() -> ExitCode {
    pgsqlchk::run(std::env::args_os())
}
