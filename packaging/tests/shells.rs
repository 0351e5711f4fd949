//! The completions, asked of the shells themselves, and the pages, as man(1) shows them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocirt_sys::testing::skip;

/// In place of the program: containers below one directory, and others below another.
const PROGRAM: &str = "#!/bin/sh
case $* in
    'list --quiet') printf '%s\\n' web1 web2 db ;;
    '--root /other list --quiet' | '--root=/other list --quiet') echo other1 ;;
    *) echo \"unexpected: $*\" >&2; exit 1 ;;
esac
";

/// A line, and what is offered at its end.
const LINES: [(&str, &[&str]); 12] = [
    ("ocirt sta", &["start", "state"]),
    ("ocirt start ", &["db", "web1", "web2"]),
    ("ocirt kill we", &["web1", "web2"]),
    ("ocirt kill --all d", &["db"]),
    ("ocirt exec ", &["db", "web1", "web2"]),
    ("ocirt --root /other delete ", &["other1"]),
    ("ocirt --root=/other delete ", &["other1"]),
    ("ocirt -r /other delete ", &["other1"]),
    ("ocirt delete -r we", &["web1", "web2"]),
    ("ocirt mounts ", &["add", "remove"]),
    ("ocirt mounts add ", &["db", "web1", "web2"]),
    // Of a container that is yet to be made there is nothing to offer.
    ("ocirt create we", &[]),
];

/// What the shells look at: the scripts, and a program called ocirt. It goes with the value.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = Place(std::env::temp_dir().join(format!("ocirt-packaging-{}-{test}", std::process::id())));
        ocirt_packaging::write(&place.0).expect("pages and completions");
        let program = place.0.join("bin/ocirt");
        fs::create_dir_all(place.0.join("bin")).expect("directory");
        fs::create_dir_all(place.0.join("empty")).expect("directory");
        fs::write(&program, PROGRAM).expect("program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("program");
        place
    }

    /// The lines that `program` prints, sorted.
    fn ask(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let mut path = OsString::from(self.0.join("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.0.join("empty"))
            .env("PATH", path)
            .env("HOME", self.0.join("empty"))
            .output()
            .expect("a shell");
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn script(&self, name: &str) -> String {
        self.0.join("completions").join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left in /tmp is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether `program` is in $PATH; the test counts as skipped if it is not.
fn has(program: &str, word: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        skip(word, &format!("no {program} in $PATH"));
    }
    found
}

#[test]
fn bash_offers_containers() {
    if !has("bash", "shells") {
        return;
    }
    let place = Place::new("bash");
    // bash hands a line to the function as words; `=` is one of them.
    let ask = "source \"$1\"; COMP_WORDS=(${2//=/ = }); [[ $2 != *' ' ]] || COMP_WORDS+=(''); \
               COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
               _ocirt ocirt \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    for (line, expected) in LINES {
        let offered = place.ask("bash", &["--norc", "-c", ask, "bash", &place.script("ocirt"), line]);
        assert_eq!(offered.join(" "), expected.join(" "), "{line:?}");
    }
    let after = place.ask("bash", &["--norc", "-c", ask, "bash", &place.script("ocirt"), "ocirt kill web1 "]);
    assert_eq!(after.join(" "), "", "one container is named already");
}

#[test]
fn zsh_offers_containers() {
    if !has("zsh", "shells") {
        return;
    }
    let place = Place::new("zsh");
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/complete.zsh").display().to_string();
    let directory = place.0.join("completions").display().to_string();
    for (line, expected) in LINES {
        let offered = place.ask("zsh", &["-f", &driver, &directory, line]);
        assert_eq!(offered.join(" "), expected.join(" "), "{line:?}");
    }
}

#[test]
fn fish_offers_containers() {
    if !has("fish", "shells") {
        return;
    }
    let place = Place::new("fish");
    for (line, expected) in LINES {
        let ask = format!("source {}; complete -C '{line}'", place.script("ocirt.fish"));
        let offered = place.ask("fish", &["--no-config", "-c", &ask]);
        // A command has its description behind a tab.
        let names: Vec<&str> = offered.iter().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names.join(" "), expected.join(" "), "{line:?}");
    }
}

#[test]
fn each_page_says_how_it_ends_what_it_touches_and_how_it_is_called() {
    if !has("man", "man") {
        return;
    }
    let place = Place::new("man");
    let mut count = 0;
    for entry in fs::read_dir(place.0.join("man8")).expect("pages") {
        let page = entry.expect("page").path();
        let output = Command::new("man")
            .args(["--warnings", "-P", "cat", "-l"])
            .arg(&page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("man");
        let (text, warnings) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(warnings, "", "{}", page.display());
        let headings: Vec<&str> =
            text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(headings.contains(&heading), "no {heading} in {}: {headings:?}", page.display());
        }
        // Nothing of the markup is left.
        assert!(!text.contains("\\["), "{}: {text}", page.display());
        count += 1;
    }
    assert_eq!(count, ocirt::cli::command().get_subcommands().count() + 1);
}

#[test]
fn the_script_puts_everything_where_it_is_looked_for() {
    let place = Place::new("install");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-pages");
    let prefix = place.0.join("usr");
    let status = Command::new(script).arg(&place.0).arg(&prefix).status().expect("the script");
    assert!(status.success());
    for file in [
        "share/man/man8/ocirt.8",
        "share/man/man8/ocirt-exec.8",
        "share/bash-completion/completions/ocirt",
        "share/zsh/site-functions/_ocirt",
        "share/fish/vendor_completions.d/ocirt.fish",
    ] {
        assert!(prefix.join(file).is_file(), "{file}");
    }
}
