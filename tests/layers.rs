//! The layer table of docs/architecture.md, enforced on the source text: arrows only go right, siblings do not know each
//! other, no files ask for each other in a circle, `unsafe` has one address, and what runs after the clone uses no heap.

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/sizes.rs"]
mod sizes;
#[path = "layers/source.rs"]
mod source;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use source::{Source, sources_of};

/// What each module may use of ours. A container module may use none of its siblings.
const LAYERS: [(&str, &[&str]); 8] = [
    ("cli", &["lifecycle", "container", "log", "trace", "error"]),
    ("lifecycle", &["plan", "init", "container", "sys", "log", "trace", "error"]),
    ("trace", &["sys", "error"]),
    ("log", &["plan", "sys", "error"]),
    ("plan", &["init", "container", "sys", "error"]),
    ("init", &["container", "sys"]),
    ("container", &["sys", "error"]),
    ("error", &["sys"]),
];

/// The same of the shim (`shim/src`), whose parts are pure.
const SHIM: [(&str, &[&str]); 7] = [
    ("call", &["api", "wire"]),
    ("mount", &["api", "call"]),
    ("stats", &["api"]),
    ("task", &["api", "wire"]),
    ("api", &["wire"]),
    ("wire", &[]),
    ("testing", &[]),
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

/// How the functions of container modules begin that run there.
const AFTER_THE_CLONE: [&str; 5] =
    ["fn apply", "fn enter", "fn find", "fn exec(", "fn create(&self) -> Result<(), Fault>"];

/// Those of the runtime, and of the crate that it has its system calls from, as if that were a module of it.
fn sources() -> Vec<Source> {
    let mut found = sources_of("src");
    assert!(found.len() > 30, "the sources are here");
    found.extend(sources_of("sys").into_iter().map(|source| Source {
        path: Path::new("sys").join(source.path),
        module: "sys".to_owned(),
        ..source
    }));
    found
}

#[test]
fn arrows_only_go_right() {
    // Of sys, cargo sees to it.
    only_go_right(sources_of("src"), LAYERS.into());
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("sys/Cargo.toml")).unwrap();
    assert!(!manifest.contains("path = \"..") && !manifest.contains("oci-spec"), "sys knows nothing of ours");
}

/// It decides; what it decides is carried out elsewhere.
#[test]
fn the_shims_arrows_only_go_right_and_it_asks_the_kernel_nothing() {
    let sources = sources_of("shim/src");
    assert!(sources.len() > 15, "the sources are here");
    for source in &sources {
        // A path is bytes, which is all that it has of std::os.
        let text = source.text.replace("std::os::unix::ffi", "");
        for word in
            ["unsafe ", "std::fs", "std::os", "std::process", "std::net", "std::env", "std::thread", "std::time::I"]
        {
            assert!(!text.contains(word), "{}: {word}", source.path.display());
        }
    }
    // Tests that have a file of their own.
    let is_test = |source: &Source| source.path.iter().any(|part| part == "golden" || part == "fuzz.rs");
    only_go_right(sources.into_iter().filter(|source| !is_test(source)).collect(), SHIM.into());
}

#[test]
fn the_shims_loop_has_its_unsafe_code_at_one_address() {
    let sources = sources_of("shim/program");
    assert!(sources.iter().any(|source| source.path == Path::new("sys.rs") && source.text.contains("unsafe {")));
    for source in sources.iter().filter(|source| source.module != "sys") {
        assert!(!source.text.contains("unsafe"), "{}: unsafe outside sys", source.path.display());
    }
}

fn only_go_right(sources: Vec<Source>, table: BTreeMap<&str, &[&str]>) {
    for source in sources {
        let Some(allowed) = table.get(source.module.as_str()) else {
            assert!(matches!(source.module.as_str(), "main" | "lib"), "{:?} is in no layer", source.path);
            continue;
        };
        for path in source.uses() {
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
        for path in source.uses() {
            let mut parts = path.split("::");
            if parts.next() == Some("container") {
                assert_eq!(parts.next(), Some(own), "{}: uses {path}", source.path.display());
            }
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
    let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    assert!(root.contains("#![forbid(unsafe_code)]"), "the runtime forbids unsafe code");
}

#[test]
fn what_runs_after_the_clone_uses_no_heap() {
    let mut seen = 0;
    for source in sources() {
        let bodies: Vec<&str> = match source.module.as_str() {
            "init" => vec![source.text.as_str()],
            "container" => bodies_after_the_clone(&source.text),
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

/// The keys that config.json has at its top.
const TOP: [&str; 9] =
    ["ociVersion", "root", "mounts", "process", "hostname", "domainname", "hooks", "annotations", "linux"];

/// A text that begins with a place in config.json is no `Field`, and the log would not know what the error is about.
#[test]
fn an_error_about_a_field_says_so_by_its_type() {
    let makers = ["bail!(", "anyhow!(", ".context(", "with_context(|| format!(", "ensure!("];
    let mut fields = 0;
    for source in sources() {
        fields += source.text.matches("field!(\"").count();
        for maker in makers {
            for (at, _) in source.text.match_indices(maker) {
                let call = source.text[at + maker.len()..].split(");").next().unwrap();
                // Of ensure!, what comes behind the condition.
                let call =
                    if maker == "ensure!(" { call.split_once(", \"").map_or("", |(_, text)| text) } else { call };
                let text = call.trim_start().trim_start_matches("format!(").trim_start_matches('"');
                let (top, rest) = text.split_at(text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len()));
                let is_place = TOP.contains(&top) && rest.starts_with([':', '.', '[']);
                assert!(!is_place, "{}: {maker}{}", source.path.display(), text.lines().next().unwrap());
            }
        }
    }
    assert!(fields > 150, "there are {fields} fields");
}

/// The bodies of the functions of a container module that steps call, by their names.
fn bodies_after_the_clone(text: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    for (at, _) in AFTER_THE_CLONE.iter().flat_map(|name| text.match_indices(name)) {
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

/// A zombie that another process traces is not reaped before that one lets go (ptrace(2)): no wait for a process blocks.
#[test]
fn no_process_is_waited_for_without_an_end() {
    let calls = ["libc::waitid(", "libc::waitpid(", "libc::wait4("];
    let mut found = 0;
    for source in sources().iter().filter(|source| source.module == "sys" && !source.path.ends_with("testing.rs")) {
        for (at, _) in calls.iter().flat_map(|call| source.text.match_indices(call)) {
            let line = source.text[at..].lines().next().unwrap();
            let is_bounded = line.contains("WNOHANG") || line.contains("| flags)");
            assert!(is_bounded, "{}: {line}", source.path.display());
            found += 1;
        }
        let flags = source.text.match_indices("wait_id(libc::");
        for (at, _) in flags {
            let line = source.text[at..].lines().next().unwrap();
            assert!(line.contains("WNOHANG"), "{}: {line}", source.path.display());
        }
    }
    assert!(found > 1, "sys waits for processes");
}

/// The runtime's umask is 0 once its flags are read (`lifecycle/disk/root.rs`): what is made without a mode of its own would be
/// everybody's to write. And what waits for a writer or a reader of a FIFO, or for room in a socket's queue, is asked of
/// `sys`, where every wait has an end.
#[test]
fn what_is_made_is_made_with_a_mode_and_what_may_wait_has_an_end() {
    const FORBIDDEN: [&str; 7] = [
        "create_dir",
        "fs::write(",
        "File::create",
        "UnixListener::bind",
        "UnixStream::connect",
        "Command::new(",
        "Umask::",
    ];
    // ps(1) makes nothing.
    let is_excused = |source: &Source, word: &str| source.path == Path::new("cli/ps.rs") && word == "Command::new(";
    let is_a_tests =
        |source: &Source| ["sys/scratch.rs", "sys/testing.rs"].iter().any(|path| source.path == Path::new(path));
    for source in sources().into_iter().filter(|source| !is_a_tests(source)) {
        for word in FORBIDDEN {
            assert!(!source.text.contains(word) || is_excused(&source, word), "{}: {word}", source.path.display());
        }
        for (at, _) in source.text.match_indices(".create(true)").chain(source.text.match_indices(".create_new(true)"))
        {
            let statement = source.text[at..].split(';').next().unwrap();
            assert!(statement.contains(".mode("), "{}: {statement}", source.path.display());
        }
        for (at, _) in source.text.match_indices("DirBuilder::new()") {
            let statement = source.text[at..].split(';').next().unwrap();
            assert!(statement.contains(".mode("), "{}: {statement}", source.path.display());
        }
    }
}

/// What of the lifecycle is cloned is a helper, which ends with the runtime, unless it becomes a program of its own. And
/// every child that is made gives up the locks first, so that they end with the runtime.
#[test]
fn a_helper_ends_with_the_runtime_and_no_child_has_its_locks() {
    // Init, an exec's process, and criu, which at a dump lets the container go by itself.
    let programs = ["lifecycle/process/launch.rs", "lifecycle/exec/start.rs", "lifecycle/checkpoint/criu.rs"];
    let mut helpers = 0;
    for source in sources().iter().filter(|source| source.module == "lifecycle") {
        let is_excused = programs.iter().any(|path| source.path == Path::new(path));
        for word in ["clone_process", "clone_sibling"] {
            // A helper's own child, which is init.
            let makes_init = word == "clone_sibling" && source.path == Path::new("lifecycle/process/user_namespace.rs");
            let bare = source.text.contains(word) && !is_excused && !makes_init;
            assert!(!bare, "{}: {word} in place of guard::clone_helper", source.path.display());
        }
        helpers += source.text.matches("guard::clone_helper(").count();
    }
    assert!(helpers > 6, "the lifecycle has {helpers} helpers");
    let mut clones = 0;
    for source in sources().iter().filter(|source| source.module == "sys") {
        // What only tests have is left out: they clone as they like.
        let text = source.text.as_str();
        let is_a_tests = source.path == Path::new("sys/testing.rs");
        let made: usize =
            ["SYS_clone3", "SYS_clone,", "libc::fork("].iter().map(|word| text.matches(word).count()).sum();
        let left = text.matches("leave_locks_to_parent();").count();
        assert!(is_a_tests || made == left, "{}: a child that has the locks", source.path.display());
        clones += made;
    }
    assert!(clones >= 2, "sys makes processes");
}
