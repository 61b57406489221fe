#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgsqlchk::fuzzing::run("certificate", bytes));
