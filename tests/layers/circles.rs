//! No files of a crate ask for each other in a circle: each can be read with those below it alone. So it is in every crate of
//! this repository, tools and tests included.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Source, expand, sources_of};

/// The directories with the root of a crate, below this repository.
fn crates() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut directories = vec![top.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && !["target", "vendor"].contains(&name) {
                directories.push(path);
            }
        }
        if ["main.rs", "lib.rs"].iter().any(|name| directory.join(name).exists()) {
            found.push(directory.strip_prefix(top).unwrap().to_path_buf());
        }
    }
    found.sort();
    found
}

/// The sources of one of them; a crate may lie in the directory of another one.
fn sources_of_crate(root: &Path, all: &[PathBuf]) -> Vec<Source> {
    let inner: Vec<&Path> = all.iter().filter_map(|other| other.strip_prefix(root).ok()).collect();
    let is_inner =
        |source: &Source| inner.iter().any(|inner| *inner != Path::new("") && source.path.starts_with(inner));
    sources_of(root.to_str().unwrap()).into_iter().filter(|source| !is_inner(source)).collect()
}

/// For each file, by its place in the list, those that it names.
fn edges(sources: &[Source]) -> Vec<BTreeSet<usize>> {
    let mut files: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        // With a library beside the program, `crate` is the library's in all files but the program's own.
        if source.path != Path::new("main.rs") || !files.contains_key(&Vec::new()) {
            files.insert(source.modules(), index);
        }
    }
    let named = |path: &str| {
        let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
        (0..=parts.len()).rev().find_map(|length| files.get(&parts[..length]).copied())
    };
    let of = |(index, source): (usize, &Source)| {
        let mut paths = source.uses();
        paths.extend(uses_of_children(source, &files));
        paths.iter().filter_map(|path| named(path)).filter(|other| *other != index).collect()
    };
    sources.iter().enumerate().map(of).collect()
}

/// What a file names of the files below its own, without `crate` or `self`: `child::Item`.
fn uses_of_children(source: &Source, files: &BTreeMap<Vec<&str>, usize>) -> Vec<String> {
    let own = source.modules();
    let before: String = own.iter().map(|part| format!("{part}::")).collect();
    let mut found = Vec::new();
    for child in files.keys().filter(|path| path.len() == own.len() + 1 && path.starts_with(&own)) {
        let named = format!("{}::", child[own.len()]);
        for (at, _) in source.text.match_indices(&named) {
            let is_whole = !source.text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_whole || source.text[..at].ends_with("self::") {
                expand(&before, &source.text[at..], &mut found);
            }
        }
    }
    found
}

/// The circles: each a list of files that all lead to each other.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let edges = edges(sources);
    let reached: Vec<BTreeSet<usize>> = (0..edges.len()).map(|from| reached_from(from, &edges)).collect();
    let all: BTreeSet<Vec<usize>> = (0..edges.len())
        .map(|from| reached[from].iter().copied().filter(|to| reached[*to].contains(&from)).collect())
        .collect();
    let names = |circle: Vec<usize>| circle.iter().map(|file| sources[*file].path.display().to_string()).collect();
    all.into_iter().filter(|circle| !circle.is_empty()).map(names).collect()
}

fn reached_from(from: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<usize> = edges[from].iter().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&edges[file]);
        }
    }
    reached
}

#[test]
fn no_files_ask_for_each_other_in_a_circle() {
    let all = crates();
    assert!(all.len() > 8, "the crates are here: {all:?}");
    let mut found = Vec::new();
    for root in &all {
        let circles = circles(&sources_of_crate(root, &all));
        found.extend(circles.iter().map(|circle| format!("{}: {}", root.display(), circle.join(", "))));
    }
    assert!(found.is_empty(), "files that ask for each other:\n{}", found.join("\n"));
}

/// What is found in made-up files is found in each crate as well.
#[test]
fn a_circle_is_found_wherever_it_is_planted() {
    let all = crates();
    for root in &all {
        let mut sources = sources_of_crate(root, &all);
        assert!(!sources.is_empty(), "{}", root.display());
        let files = [
            ("planted/above.rs", "use super::{within::below, uninvolved};\n"),
            ("planted/uninvolved.rs", ""),
            ("planted/within/below.rs", "use crate::planted::above::*;\n"),
        ];
        let planted = |(path, text): (&str, &str)| Source {
            path: path.into(),
            module: "planted".to_owned(),
            text: text.to_owned(),
        };
        sources.extend(files.map(planted));
        let found = circles(&sources);
        let planted: Vec<_> = found.iter().filter(|circle| circle[0].starts_with("planted")).collect();
        assert_eq!(planted, [&["planted/above.rs", "planted/within/below.rs"]], "{}", root.display());
    }
}
