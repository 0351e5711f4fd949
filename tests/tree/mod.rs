//! The files of this repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Those below `places`, which are directories or files of this repository, whose names end in `ending`; but for what cargo has
/// built there.
pub fn files(places: &[&str], ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest: Vec<_> = places.iter().map(|place| Path::new(env!("CARGO_MANIFEST_DIR")).join(place)).collect();
    while let Some(path) = rest.pop() {
        if path.is_dir() && !path.ends_with("target") {
            rest.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}
