//! The command line: which options exist and what was typed, as raw strings. The only user of argh.

/// Why the program ends before it has started: what to print, where, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What to print, without the final newline; on stderr always a single line.
    pub text: String,
    /// Whether `text` belongs on stdout (`--help`, `--version`) rather than on stderr.
    pub on_stdout: bool,
    /// The process's exit code: 0 after `--help` and `--version`, 3 for bad usage or configuration.
    pub code: u8,
}
