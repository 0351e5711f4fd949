//! The layer table of docs/architecture.md, enforced on the source text: arrows only go right, siblings do not know each
//! other, `unsafe` has one address, and what runs after the clone uses no heap.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use of ours. A container module may use none of its siblings.
const LAYERS: [(&str, &[&str]); 7] = [
    ("cli", &["lifecycle", "container", "log"]),
    ("lifecycle", &["plan", "init", "container", "sys", "log"]),
    ("log", &["plan", "sys"]),
    ("plan", &["init", "container", "sys"]),
    ("init", &["container", "sys"]),
    ("container", &["sys"]),
    ("sys", &[]),
];

/// Crates that have one home.
const CRATES: [(&str, &[&str]); 4] =
    [("clap", &["cli"]), ("libc", &["sys"]), ("nix", &["sys"]), ("oci_spec", &["plan", "container", "lifecycle"])];

/// What a function that runs after the clone must not say.
const HEAP: [&str; 13] = [
    "format!",
    "vec!",
    "Vec::",
    "String::",
    "Box::",
    "CString::",
    ".to_string()",
    ".to_owned()",
    ".to_vec()",
    ".collect",
    "std::fs",
    "std::io",
    "std::env",
];

struct Source {
    path: PathBuf,
    module: String,
    /// The text without comments and without its tests.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap().to_path_buf();
                let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
                let is_test =
                    inside.iter().any(|part| part.to_str().unwrap().trim_end_matches(".rs").ends_with("tests"));
                if !is_test {
                    let text = without_comments_and_tests(&fs::read_to_string(&path).unwrap());
                    found.push(Source { path: inside, module, text });
                }
            }
        }
    }
    assert!(found.len() > 30, "the sources are here");
    found
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Every `crate::…` path in the text, with the parts of `{…}` lists told apart: `container::hooks`, `sys`.
fn uses(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("crate::").skip(1) {
        let end = part.find([';', '(', ' ', '<', '>', ')', ',']).unwrap_or(part.len());
        let path = part[..end].trim();
        match part.split_once('{') {
            Some((before, rest)) if before.len() <= end && !before.contains([';', '(', ' ', ',']) => {
                let list = rest.split('}').next().unwrap();
                found.extend(list.split(',').map(|item| format!("{before}{}", item.trim())));
            }
            _ => found.push(path.to_owned()),
        }
    }
    found
}

#[test]
fn arrows_only_go_right() {
    let table: BTreeMap<_, _> = LAYERS.into();
    for source in sources() {
        let Some(allowed) = table.get(source.module.as_str()) else {
            assert!(matches!(source.module.as_str(), "main" | "lib"), "{:?} is in no layer", source.path);
            continue;
        };
        for path in uses(&source.text) {
            let used = path.split("::").next().unwrap();
            assert!(
                used == source.module || allowed.contains(&used),
                "{}: {} may not use crate::{path}",
                source.path.display(),
                source.module
            );
        }
    }
}

#[test]
fn siblings_do_not_know_each_other() {
    for source in sources().iter().filter(|source| source.module == "container") {
        let own = source.path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        for path in uses(&source.text) {
            let mut parts = path.split("::");
            if parts.next() == Some("container") {
                assert_eq!(parts.next(), Some(own), "{}: uses crate::{path}", source.path.display());
            }
        }
        for part in source.text.split("super::super::").skip(1) {
            let deep = source.path.iter().count() > 3;
            assert!(deep, "{}: reaches a sibling through super::super::{part:.30}", source.path.display());
        }
    }
}

#[test]
fn crates_with_one_home_stay_there() {
    for source in sources() {
        for (name, homes) in CRATES {
            let named = format!("{name}::");
            let uses_it = source
                .text
                .match_indices(&named)
                .any(|(at, _)| !source.text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            assert!(
                !uses_it || homes.contains(&source.module.as_str()),
                "{}: {name} belongs to {homes:?}",
                source.path.display()
            );
        }
    }
}

#[test]
fn unsafe_has_one_address() {
    for source in sources().iter().filter(|source| source.module != "sys") {
        let text = source.text.replace("unsafe_code", "").replace("unsafe_op_in_unsafe_fn", "");
        let has_word = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        assert!(!has_word, "{}: unsafe outside sys", source.path.display());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in ["cli", "lifecycle", "plan", "init", "container"] {
        let text = fs::read_to_string(root.join(module).join("mod.rs")).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{module} forbids unsafe code");
    }
}

#[test]
fn what_runs_after_the_clone_uses_no_heap() {
    let mut seen = 0;
    for source in sources() {
        let bodies: Vec<&str> = match source.module.as_str() {
            "init" => vec![source.text.as_str()],
            "container" => bodies_of_apply(&source.text),
            _ => continue,
        };
        for body in bodies {
            seen += 1;
            for word in HEAP {
                assert!(
                    !body.contains(word),
                    "{}: {word} in what runs after the clone:\n{body}",
                    source.path.display()
                );
            }
        }
    }
    assert!(seen > 20, "there are {seen} bodies to look at");
}

/// The bodies of all functions named `apply…`.
fn bodies_of_apply(text: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    for (at, _) in text.match_indices("fn apply") {
        let start = at + text[at..].find('{').unwrap();
        let mut depth = 0;
        let end = text[start..].char_indices().find_map(|(index, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            (depth == 0).then_some(start + index)
        });
        bodies.push(&text[start..end.unwrap()]);
    }
    bodies
}
