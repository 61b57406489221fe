//! What `fuzz/` drives: every parser and writer that meets bytes of others, each with what has to hold for any bytes.
//! Not in the released program.
//!
//! The same drivers run in `cargo test`, over the committed seeds and over
//! mutations of them that are the same in every run; coverage-guided they run in `make fuzz`.

pub(crate) mod exposition;
pub(crate) mod html;
pub(crate) mod source;
pub(crate) mod wire;

/// Holds one input against the target's rules; panics where one is broken.
pub type Driver = fn(&[u8]);

/// A target's name, that of its file in `fuzz/fuzz_targets/` and of its folder in `fuzz/corpus/`, and its driver.
pub const TARGETS: [(&str, Driver); 14] = [
    ("accept", crate::wire::fuzzing::accept),
    ("certificate", crate::tls::certificate::fuzz),
    ("configuration", crate::config::fuzzing::configuration),
    ("conninfo", crate::config::fuzzing::conninfo),
    ("documents", crate::reply::fuzzing::documents),
    ("head", crate::wire::fuzzing::head),
    ("line", crate::wire::fuzzing::line),
    ("passfile", crate::config::fuzzing::passfile),
    ("peer", crate::peers::fuzzing::peer),
    ("proxy_header", crate::wire::fuzzing::proxy_header),
    ("row", crate::reply::fuzzing::row),
    ("server_state", crate::wire::fuzzing::server_state),
    ("service", crate::config::fuzzing::service),
    ("target", crate::verdict::fuzzing::target),
];

/// Runs the target with this name; panics where there is none.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, drive) = target.unwrap_or_else(|| panic!("no fuzz target {name}"));
    drive(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic;
    use std::path::{Path, PathBuf};

    use super::TARGETS;

    /// Mutations of the seeds, for each target.
    const MUTATIONS: usize = 1000;

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = folder("corpus").join(target);
        names(&folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
    }

    fn drive(name: &str, drive: fn(&[u8]), bytes: &[u8]) {
        if let Err(what) = panic::catch_unwind(|| drive(bytes)) {
            // As a seed it becomes a regression test.
            let file = std::env::temp_dir().join(format!("pgsqlchk-fuzz-{name}-{}", std::process::id()));
            let _ = fs::write(&file, bytes);
            let shown = bytes.escape_ascii().to_string();
            let shown = shown.get(..2000).unwrap_or(&shown);
            panic!("{name} with {} ({shown}): {what:?}", file.display());
        }
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        let targets = TARGETS.map(|(name, _)| name.to_owned());
        let programs: Vec<_> = targets.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names(&folder("corpus")), targets);
        assert_eq!(names(&folder("fuzz_targets")), programs);
        let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
        for name in targets {
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} stands in fuzz/Cargo.toml");
            assert!(!seeds(&name).is_empty(), "{name} has seeds");
        }
    }

    /// Every defect that fuzzing found stands among the seeds.
    #[test]
    fn every_seed_keeps_the_rules() {
        for (name, driver) in TARGETS {
            seeds(name).iter().for_each(|seed| drive(name, driver, seed));
        }
    }

    #[test]
    fn mutations_of_the_seeds_keep_the_rules() {
        for (name, driver) in TARGETS {
            let seeds = seeds(name);
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            for _ in 0..MUTATIONS {
                drive(name, driver, &random.mutation(&seeds));
            }
        }
    }

    /// xorshift64: the same numbers in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from((self.0 >> 16) % bound.max(1) as u64).unwrap()
        }

        /// A seed with a few bytes changed, cut out, doubled, or taken from another seed.
        fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
            let mut bytes = seeds[self.below(seeds.len())].clone();
            for _ in 0..=self.below(6) {
                let at = self.below(bytes.len() + 1);
                let end = (at + self.below(16)).min(bytes.len());
                match self.below(6) {
                    0 => drop(bytes.splice(at..end, [])),
                    1 => drop(bytes.splice(at..at, bytes[at..end].repeat(self.below(40)))),
                    2 => {
                        let other = &seeds[self.below(seeds.len())];
                        let from = self.below(other.len());
                        let until = (from + self.below(40)).min(other.len());
                        drop(bytes.splice(at..end, other[from..until].iter().copied()));
                    }
                    3 => bytes.insert(at, b"\0\r\n\t :;,=&?'\"\\%#[]@/*\x7f\xff\xc3<>"[self.below(26)]),
                    4 => bytes.truncate(at.max(1)),
                    _ => {
                        let byte = self.below(256) as u8;
                        if let Some(place) = bytes.get_mut(at) {
                            *place = byte;
                        }
                    }
                }
            }
            bytes
        }
    }
}
