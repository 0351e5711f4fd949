//! What a unit test may not do in silence, checked on the source text: end early without a word, or look outside of the clone.

mod tree;

use std::fs;
use std::path::PathBuf;

/// The files below `directories` whose names end in `ending`, with their text.
fn files(directories: &[&str], ending: &str) -> Vec<(PathBuf, String)> {
    let paths = tree::files(directories, ending).into_iter();
    paths.filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

/// `(name, body)` of each function behind `#[test]`.
fn tests(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("#[test]\n").skip(1);
    parts
        .filter_map(|part| {
            let (_, rest) = part.split_once("fn ")?;
            let (name, rest) = rest.split_once('(')?;
            // The closing brace is as far to the right as the attribute: at the start, or four columns in.
            let end = rest.find("\n    }\n").filter(|at| rest.find("\n}\n").is_none_or(|other| *at < other));
            let is_indented = part.starts_with("    ");
            let end = if is_indented { end } else { rest.find("\n}\n") };
            Some((name, &rest[..end.unwrap_or(rest.len())]))
        })
        .collect()
}

/// The first line of a test that ends it before anything was compared or a skip was counted.
fn silent_end(file: &str, body: &str) -> Option<String> {
    let mut before = String::new();
    for line in body.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let ends = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "return");
        // What makes the ground for several tests counts the skip itself.
        let is_ground = code.contains("let Some(") && (file.contains("skip(") || code.contains("Ground::new("));
        // OCIRT_WRITE=1 writes a page anew instead of comparing it.
        let is_ground = is_ground || code.contains("fs::write(");
        if ends && !is_ground && !before.contains("assert") && !code.contains("skip(") && !before.contains("skip(") {
            return Some(line.trim().to_owned());
        }
        before.push_str(code);
    }
    None
}

#[test]
fn a_test_that_ends_early_counts_as_skipped() {
    let mut count = 0;
    let places = ["src", "sys", "tests", "integration/src", "integration/engines/src", "shim/src"];
    // The examples here are text.
    for (path, text) in files(&places, ".rs").into_iter().filter(|(path, _)| !path.ends_with("honest.rs")) {
        for (name, body) in tests(&text) {
            count += 1;
            let silent = silent_end(&text, body);
            assert_eq!(silent, None, "{}: {name} passes without a word", path.display());
        }
    }
    assert!(count > 500, "there are {count} tests");
}

#[test]
fn nothing_outside_of_the_clone_decides_a_test() {
    let places =
        ["src", "sys", "tests", "integration", "conformance", "bench", "packaging", "scripts", "shim", "Makefile"];
    let outside = [["..", "shared"].join("/"), ["", "work", ""].join("/")];
    let all = files(&places, "");
    assert!(all.len() > 300, "there are {} files", all.len());
    for (path, text) in all {
        for word in &outside {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn a_silent_end_is_found() {
    let text = "#[test]\nfn a() {\n    if no_root() {\n        return;\n    }\n    assert!(true);\n}\n\
                mod tests {\n    #[test]\n    fn b() {\n        let Some(x) = ground() else { return };\n    }\n}\n";
    let all = tests(text);
    assert_eq!(all.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(silent_end(text, all[0].1).as_deref(), Some("return;"));
    assert!(silent_end(text, all[1].1).is_some());
    assert_eq!(silent_end("fn ground() { skip(\"x\") }", all[1].1), None);
    assert_eq!(silent_end(text, "    assert!(x);\n    return;\n"), None);
    assert_eq!(silent_end(text, "        return skip(\"root\", \"why\");\n"), None);
}
