//! The corpora, and what came out of fuzzing, are replayed in every run of the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

use portcullis_fuzz::TARGETS;

#[test]
fn every_target_keeps_its_promises_on_its_corpus() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{}", path.display());
            }
            count += 1;
        }
        assert!(count >= 5, "{name} has no corpus");
    }
}

#[test]
fn every_target_is_run_by_the_fuzzer() {
    let fuzzer = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets");
    for (name, _) in TARGETS {
        let source = fs::read_to_string(fuzzer.join(format!("{name}.rs"))).unwrap();
        assert!(source.contains(&format!("portcullis_fuzz::{name}(")));
    }
}
