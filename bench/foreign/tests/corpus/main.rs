//! Seeds and findings on a stable compiler: each file below `seeds` and `found` is run through the function its folder is
//! named after, whole and damaged.
//!
//! `UPDATE_SEEDS=1` writes the seeds that are made: those of the vectors, and answers of the models of the CRMs. The other
//! seeds, and all findings, are written by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

mod damage;
mod models;
mod vectors;

use std::path::{Path, PathBuf};

use headgate_foreign::Target;

/// Most bytes of all seeds together: they are looked at in every checkout.
const MOST_BYTES: usize = 1 << 20;

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_SEEDS").is_some()
}

/// The files of a folder by name; none where there is no folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    files(&in_crate("seeds").join(target.name))
}

/// Runs an input; a broken promise fails the test with the name of the file.
fn run(target: &Target, file: &str, input: &[u8]) -> usize {
    match target.run(input) {
        Ok(meaning) => meaning,
        Err(broken) => panic!("{broken}: {}/{file}", target.name),
    }
}

#[test]
fn every_finding_stays_mended() {
    for target in Target::all() {
        for (file, input) in files(&in_crate("found").join(target.name)) {
            run(&target, &file, &input);
        }
    }
}

#[test]
fn every_target_has_seeds_and_most_of_them_mean_something() {
    for target in Target::all() {
        let seeds = seeds(&target);
        let meaning = seeds.iter().filter(|(file, input)| run(&target, file, input) > 0).count();
        assert!(seeds.len() >= 5, "{}: {} seeds", target.name, seeds.len());
        assert!(meaning * 3 >= seeds.len(), "{}: {meaning} of {} seeds mean something", target.name, seeds.len());
    }
}

#[test]
fn each_folder_belongs_to_a_target_and_all_seeds_are_small() {
    let mut bytes = 0;
    for kept in ["seeds", "found"] {
        let Ok(folders) = std::fs::read_dir(in_crate(kept)) else { continue };
        for folder in folders.map(|folder| folder.unwrap()) {
            let name = folder.file_name().into_string().unwrap();
            assert!(Target::find(&name).is_some(), "{kept}/{name}: no target has this name");
            bytes += files(&folder.path()).iter().map(|(_, input)| input.len()).sum::<usize>();
        }
    }
    assert!(bytes < MOST_BYTES, "{bytes} bytes of seeds and findings");
}
