#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgsqlchk::fuzzing::run("server_state", bytes));
