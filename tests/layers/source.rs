//! Sources as text, and the paths of ours that they name.

use std::fs;
use std::path::{Path, PathBuf};

use super::tree;

/// A file of one crate.
pub struct Source {
    /// Below the directory of the crate's root.
    pub path: PathBuf,
    /// The first part of the path.
    pub module: String,
    /// The text without comments and without its tests.
    pub text: String,
}

/// The sources below a directory of this repository, but for files of tests.
pub fn sources_of(root: &str) -> Vec<Source> {
    let root_path = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    for path in tree::files(&[root], ".rs") {
        let inside = path.strip_prefix(&root_path).unwrap().to_path_buf();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let is_test = inside.iter().any(|part| part.to_str().unwrap().trim_end_matches(".rs").ends_with("tests"));
        if !is_test {
            let text = without_comments_and_tests(&fs::read_to_string(&path).unwrap());
            found.push(Source { path: inside, module, text });
        }
    }
    found
}

/// Rust as rustfmt leaves it: a module of tests ends at the next `}` without indentation; `mod tests;` has its own file.
pub fn without_comments_and_tests(text: &str) -> String {
    let text = text.replace("#[cfg(test)]\npub(crate) mod ", "#[cfg(test)]\nmod ");
    // What the tests of other crates use.
    let text = text.replace("#[cfg(any(test, feature = \"testing\"))]\npub mod ", "#[cfg(test)]\nmod ");
    let mut parts = text.split("#[cfg(test)]\nmod ");
    let mut code = parts.next().unwrap().to_owned();
    for part in parts {
        let line = part.lines().next().unwrap();
        let end = if line.ends_with('{') { "\n}\n" } else { "\n" };
        code.push_str(part.split_once(end).map_or("", |(_, rest)| rest));
    }
    code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

impl Source {
    /// The path of its module from the crate's root, which has none.
    pub fn modules(&self) -> Vec<&str> {
        let mut module: Vec<&str> =
            self.path.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs")).collect();
        if matches!(module.last(), Some(&"mod")) || matches!(module[..], ["main" | "lib"]) {
            module.pop();
        }
        module
    }

    /// Every path of ours in the text as seen from the crate's root, with `{…}` lists told apart: `container::hooks`.
    pub fn uses(&self) -> Vec<String> {
        let module = self.modules();
        let mut found = Vec::new();
        for (at, _) in self.text.match_indices("crate::") {
            expand("", &self.text[at + "crate::".len()..], &mut found);
        }
        for (at, _) in self.text.match_indices("super::") {
            if !self.text[..at].ends_with("super::") {
                let mut rest = &self.text[at..];
                let mut base = module.clone();
                base.extend(module_within(&self.text[..at]));
                while let Some(outer) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = outer;
                }
                let base: String = base.iter().map(|part| format!("{part}::")).collect();
                expand(&base, rest, &mut found);
            }
        }
        found
    }
}

/// The module of the file itself that the end of `text` is in.
fn module_within(text: &str) -> Option<&str> {
    let outermost = text.lines().rev().find(|line| line.starts_with(|c: char| !c.is_whitespace()))?;
    outermost.strip_suffix(" {")?.rsplit_once("mod ").map(|(_, name)| name)
}

/// Adds the path at the start of `text` to `found`, or, where it ends in a list, all its paths; returns what follows.
pub fn expand<'a>(before: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (path, mut rest) = text.split_at(end);
    let path = format!("{before}{path}");
    if !(path.is_empty() || path.ends_with("::")) || !rest.starts_with('{') {
        found.push(path);
        return rest;
    }
    // Behind the last comma of a list there may be nothing.
    while !rest.starts_with('}') && !rest[1..].trim_start().starts_with('}') {
        rest = expand(&path, rest[1..].trim_start(), found).trim_start();
        // `x as y`, or what is no list after all.
        let next = rest.find([',', '}', ';']).unwrap_or(rest.len());
        rest = &rest[next..];
        if !rest.starts_with([',', '}']) {
            return rest;
        }
    }
    rest.split_once('}').map_or("", |(_, after)| after)
}

#[test]
fn paths_are_read_out_of_lists_and_relative_to_their_module() {
    let text = "use crate::{log::{Log, facts}, sys as s};\nuse super::{uts,\n  super_user,\n};\nfn f() { crate::init::x(super::y) }\n\
                pub mod inner {\n    use super::z;\n}\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\nuse super::super::plan;";
    let source =
        Source { path: "container/a.rs".into(), module: "container".into(), text: without_comments_and_tests(text) };
    let found = source.uses();
    let expected = [
        "log::Log",
        "log::facts",
        "sys",
        "init::x",
        "container::uts",
        "container::super_user",
        "container::y",
        "container::a::z",
        "plan",
    ];
    assert_eq!(found, expected);
}
