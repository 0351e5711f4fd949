//! The documents' claims about tests, checked on the source text: every test that a page names exists, docs/security.md
//! has a row for each CVE and advisory of runc, crun and youki, and its table of who falls is what the lists say.
//!
//! `OCIRT_WRITE=1 cargo test -p ocirt --test docs` writes that table anew.

mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The pages whose tables name tests.
const PAGES: [&str; 6] = [
    "docs/security.md",
    "docs/coverage.md",
    "docs/runc-behavior.md",
    "docs/kernel.md",
    "docs/testing.md",
    "docs/shim-faults.md",
];

/// Where tests are.
const SOURCES: [&str; 8] =
    ["src", "sys", "tests", "shim/src", "shim/program", "shim/tests", "integration/src", "integration/tests/suite"];

/// Every CVE and advisory of runc, crun and youki up to November 2026, as GitHub's advisory pages and the release notes
/// of the three list them.
const ADVISORIES: [&str; 37] = [
    "2016-3697",
    "2016-9962",
    "2019-5736",
    "2019-16884",
    "2019-19921",
    "2021-30465",
    "2021-43784",
    "2022-24769",
    "2022-27650",
    "2022-29162",
    "2023-25809",
    "2023-27561",
    "2023-28642",
    "2024-21626",
    "2024-45310",
    "2025-24965",
    "2025-27612",
    "2025-31133",
    "2025-52565",
    "2025-52881",
    "2025-54867",
    "2025-62161",
    "2025-62596",
    "2026-30892",
    "2026-41579",
    "2026-47766",
    "2026-84042",
    "2026-88264",
    "2026-88265",
    "2026-115520",
    "2026-115521",
    "2026-119101",
    "2026-119614",
    "#3434",
    "#3554",
    "GHSA-992m-xc3g-r7rj",
    "GHSA-3q8j-pf29-vwv8",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `name` and `module::name` of each test: of functions with `#[test]`, and of those that a module of the suite lists in
/// `tests![]`. A function that nothing runs is no evidence.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in tree::files(&SOURCES, ".rs") {
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        for name in listed(&text).into_iter().chain(marked(&text)) {
            found.insert(name.to_owned());
            found.insert(format!("{module}::{name}"));
        }
    }
    assert!(found.len() > 1000, "the sources are here");
    found
}

/// The names of a suite module's `tests![]`.
fn listed(text: &str) -> Vec<&str> {
    let list = text.split_once("\ntests![").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The names of the functions behind `#[test]`, with other attributes and comments between.
fn marked(text: &str) -> Vec<&str> {
    let bodies = text.split("#[test]\n").skip(1);
    bodies
        .filter_map(|body| {
            let before = |line: &&str| line.starts_with('#') || line.starts_with("//");
            let mut lines = body.lines().map(str::trim_start);
            // One that is ignored does not run.
            if lines.clone().take_while(before).any(|line| line.starts_with("#[ignore")) {
                return None;
            }
            lines.find(|line| !before(line))?.strip_prefix("fn ")?.split('(').next()
        })
        .collect()
}

/// The words in backquotes that can be nothing but a test: `module::name`, or four words and more joined by `_`.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c));
    let is_test = |word: &&str| {
        let (module, name) = word.rsplit_once("::").unwrap_or(("", word));
        !name.is_empty() && (!module.is_empty() || name.matches('_').count() > 2)
    };
    quoted.filter(is_name).filter(is_test).collect()
}

#[test]
fn every_test_that_a_page_names_exists() {
    let tests = tests();
    let mut count = 0;
    let mut missing = Vec::new();
    for page in PAGES {
        let text = read(page);
        let all = names(&text);
        count += all.len();
        // `a::b` in a page may be a module of the product and a name in it; the last two parts are what is looked for.
        let last_two =
            |name: &str| name.rsplit("::").take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("::");
        missing.extend(
            // What the suite finds changed on the host is listed like a test.
            all.into_iter()
                .filter(|name| !name.starts_with("host::") && !tests.contains(&last_two(name)))
                .map(|name| format!("{page}: {name}")),
        );
    }
    assert!(count > 200, "the pages name {count} tests");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

/// The rows of the tables of CVEs.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    let (_, tables) = page.split_once("## CVEs of").expect("the tables of CVEs");
    let tables = tables.split("## The same tests with each runtime").next().unwrap_or_default();
    tables.lines().filter(|line| line.starts_with('|'))
}

/// Whether it is a test that runs against a whole runtime, as `module::name`.
fn is_of_the_suite(name: &str) -> bool {
    name.split_once("::").is_some_and(|(module, _)| suite(module).is_some())
}

#[test]
fn every_advisory_has_a_row_and_an_attack_of_the_suite() {
    let page = read("docs/security.md");
    for id in ADVISORIES {
        let tried = rows(&page)
            .filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.split([' ', ',']).any(|word| word == id)))
            .flat_map(names)
            .any(is_of_the_suite);
        assert!(tried, "docs/security.md: no row of {id} names a test of the suite");
    }
}

/// The faults of other shims that docs/shim-faults.md has a row for: reports of containerd, moby, Kubernetes and others.
const SHIM_FAULTS: usize = 44;

#[test]
fn every_fault_of_another_shim_has_a_test_or_a_walk() {
    let page = read("docs/shim-faults.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what ")).collect();
    assert_eq!(rows.len(), SHIM_FAULTS);
    // What these targets of the Makefile walk, by the words with which they do.
    let walked = [
        ("engines-shim", "--walks integration/engines/shim ", "shim/shim.walk"),
        ("engines-shim", "--walks integration/engines/shim-new ", "shim-new/cri.walk"),
        ("engines-shim", "--walks integration/engines/shim-new ", "shim-new/containerd.walk"),
        ("engines-shim", "containerd robust ", "walks/robust.walk"),
        ("bench-shim", "--walks integration/engines/bench ", "bench/shim.walk"),
    ];
    let makefile = read("Makefile");
    let walk = |(target, words, walk): (&str, &str, &str)| {
        let recipe = makefile.split_once(&format!("\n{target}: ")).map(|(_, rest)| rest.split("\n\n").next().unwrap());
        assert!(recipe.is_some_and(|recipe| recipe.contains(words)), "make {target} does not walk {walk}");
        read(&format!("integration/engines/{walk}"))
    };
    let walks: String = walked.into_iter().map(walk).collect();
    for row in rows {
        let proof = row.split('|').nth(3).unwrap_or_else(|| panic!("three columns: {row}"));
        let steps: Vec<_> = proof.split('"').skip(1).step_by(2).collect();
        for step in &steps {
            assert!(walks.contains(&format!("# {step}\n")), "no walk has the step {step:?}");
        }
        // That the tests exist is checked as on the other pages.
        assert!(!steps.is_empty() || !names(proof).is_empty(), "nothing tests {row}");
    }
}

#[test]
fn every_name_that_a_test_is_listed_under_as_failing_exists() {
    let tests = tests();
    for kind in ["runc", "crun"] {
        let text = read(&format!("integration/expected/{kind}.txt"));
        // Pieces of messages are indented (integration/src/expected.rs).
        for line in text.lines().filter(|line| !line.starts_with(['#', ' ']) && !line.is_empty()) {
            let (name, reason) = line.split_once(": ").unwrap_or_else(|| panic!("{kind}: no reason in {line}"));
            assert!(name.starts_with("host::") || tests.contains(name), "{kind}: no test {name}");
            assert!(!reason.trim().is_empty(), "{kind}: no reason in {line}");
        }
    }
}

/// The modules of the suite that are attacks from the first test to the last.
const ATTACKS: [&str; 4] = ["security", "attacks", "hostile_devices", "hostile_files"];

/// The text of a module of the suite; none where there is no such module.
fn suite(module: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("integration/tests/suite/{module}.rs"));
    fs::read_to_string(path).ok()
}

/// The attacks, as `module::name`: all of [`ATTACKS`], and what the tables of CVEs in `page` name from other modules.
fn attacks(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for module in ATTACKS {
        let text = suite(module).expect("a module of attacks");
        found.extend(listed(&text).into_iter().map(|name| format!("{module}::{name}")));
    }
    let named: BTreeSet<_> = rows(page).flat_map(names).filter(|name| is_of_the_suite(name)).collect();
    let is_listed = |name: &&str| name.split_once("::").is_some_and(|(module, _)| ATTACKS.contains(&module));
    found.extend(named.into_iter().filter(|name| !is_listed(name)).map(str::to_owned));
    found
}

/// Whether a test asks for what `kind` does not have, by itself or in a function of its module that it calls.
fn skipped(kind: &str, test: &str) -> bool {
    let (module, name) = test.split_once("::").expect("module::name");
    let text = suite(module).expect("a module");
    let functions: Vec<_> = text.split("\nfn ").skip(1).filter_map(|text| text.split_once('(')).collect();
    let body = |wanted: &str| functions.iter().find(|(name, _)| *name == wanted).map_or("", |(_, body)| body);
    // Debian's crun is built without CRIU. `ocirt()` is the harness's, of criu.rs.
    let asks = |body: &str| {
        (body.contains("need_ocirt()") || body.contains("need(Need::Ocirt") || body.contains("    ocirt();"))
            || kind == "crun" && body.contains("    required();")
    };
    let body = body(name);
    assert!(!body.is_empty(), "{test} has a body");
    asks(body) || functions.iter().any(|(name, text)| asks(text) && body.contains(&format!("{name}(")) && body != *text)
}

/// The releases that the lists are about, as the table's columns have them.
const RELEASES: [(&str, &str); 4] = [("runc", "1.1.5"), ("runc", "1.3.6"), ("crun", "1.8.1"), ("crun", "1.28")];

/// The numbers of `1.3.6`, to be compared.
fn numbers(release: &str) -> Vec<u32> {
    release.split('.').map(|number| number.parse().expect("a number")).collect()
}

/// What the list of differences of `kind` says of a test with a release (integration/src/expected.rs).
fn verdict(kind: &str, release: &str, expected: &str, test: &str) -> String {
    let mut entries = expected.lines().filter_map(|line| line.strip_prefix(test)?.strip_prefix(": "));
    let of_release = |reason: &&str| {
        let is_number = |text: &&str| text.chars().all(|c| c.is_ascii_digit() || c == '.');
        let bound =
            |word: &str| reason.split(": ").find_map(|part| part.strip_prefix(word)).filter(is_number).map(numbers);
        let release = numbers(release);
        bound("from ").is_none_or(|from| release >= from) && bound("before ").is_none_or(|before| release < before)
    };
    let Some(mut reason) = entries.find(of_release) else {
        return if skipped(kind, test) { "skipped" } else { "pass" }.to_owned();
    };
    let mut often = String::new();
    while let Some((word, rest)) = reason.split_once(": ") {
        match word {
            "sometimes" => often.push_str("sometimes "),
            "on cgroup1" => often.push_str("on v1 "),
            "on cgroup2" => often.push_str("on v2 "),
            _ if word.starts_with("from ") || word.starts_with("before ") => {}
            _ => break,
        }
        reason = rest;
    }
    format!("{often}{}", if reason.starts_with("falls: ") { "falls" } else { "differs" })
}

#[test]
fn the_table_of_who_falls_is_what_the_lists_say() {
    let page = read("docs/security.md");
    let columns = RELEASES.map(|(kind, release)| format!(" {kind} {release} |")).concat();
    let mut table = format!("| test | ocirt |{columns}\n|---|---|---|---|---|---|\n");
    let lists = RELEASES.map(|(kind, release)| (kind, release, read(&format!("integration/expected/{kind}.txt"))));
    for test in attacks(&page) {
        let verdicts =
            lists.each_ref().map(|(kind, release, list)| format!(" {} |", verdict(kind, release, list, &test)));
        table += &format!("| `{test}` | pass |{}\n", verdicts.concat());
    }
    assert!(table.contains("| falls |") && table.contains("| skipped |"), "{table}");
    let (before, rest) = page.split_once("| test | ocirt |").expect("the table");
    let (_, after) = rest.split_once("\n\n").expect("what follows the table");
    let wanted = format!("{before}{table}\n{after}");
    if std::env::var_os("OCIRT_WRITE").is_some() {
        return fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md"), wanted).unwrap();
    }
    assert!(page == wanted, "OCIRT_WRITE=1 cargo test -p ocirt --test docs; docs/security.md should have\n{table}");
}

#[test]
fn names_are_found_in_text() {
    assert_eq!(
        names("see `a::b`, `src/x.rs` and `four_words_make_one`, `not_a_test`"),
        ["a::b", "four_words_make_one"]
    );
}

/// `(code, severity, remedy)` of each finding, as the source has them.
fn findings(source: &str) -> Vec<(String, String, String)> {
    let (_, table) = source.split_once("\ncodes! {\n").expect("the table");
    let rows = table.lines().take_while(|line| *line != "}");
    let row = |line: &str| {
        let mut quoted = line.split('"');
        let (code, severity) = (quoted.nth(1).expect("a code"), quoted.next().expect("a severity"));
        (code.to_owned(), severity.trim().to_lowercase(), quoted.next().expect("a remedy").to_owned())
    };
    rows.map(row).collect()
}

#[test]
fn every_code_of_check_is_explained_and_provoked() {
    let (page, suite) = (read("docs/check.md"), read("integration/tests/suite/check.rs"));
    let tests = read("src/container/lint/tests.rs") + &suite;
    let codes = findings(&read("src/container/lint/code.rs"));
    assert!(codes.len() > 25, "{} codes", codes.len());
    for (code, severity, remedy) in &codes {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{code}` | {severity} | ")));
        assert!(row.is_some_and(|row| row.ends_with(&format!(" | {remedy} |"))), "docs/check.md: {code}");
        assert!(tests.contains(&format!("\"{code}\"")), "no test provokes {code}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), codes.len(), "docs/check.md");
}
