//! A file is about one thing, and none is longer than is read in one go: tables alone are.

use std::fs;
use std::path::Path;

use super::tree;

const MOST_LINES: usize = 400;

/// Entries one after the other, and nothing to follow.
const TABLES: [&str; 2] = ["src/container/seccomp/table.rs", "packaging/src/pages.rs"];

#[test]
fn no_file_is_long_but_a_table() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places =
        ["src", "sys", "tests", "shim", "integration", "bench", "conformance", "packaging", "scripts", "build.rs"];
    let mut looked_at = 0;
    for path in tree::files(&places, "") {
        let ending = path.extension().map_or("sh", |extension| extension.to_str().unwrap());
        if !["rs", "c", "h", "go", "sh"].contains(&ending) {
            continue;
        }
        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
        // A script has no ending; some have a byte that is no text, as input for what they test.
        let lines = String::from_utf8_lossy(&fs::read(&path).unwrap()).lines().count();
        looked_at += 1;
        let is_long = lines > MOST_LINES;
        assert_eq!(
            is_long,
            TABLES.contains(&name),
            "{name} has {lines} lines, and {MOST_LINES} is the most but for tables"
        );
    }
    assert!(looked_at > 500, "{looked_at} files were looked at");
}
