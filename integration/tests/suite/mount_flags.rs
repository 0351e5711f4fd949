//! Every pair of options that are flags of a mount, in both orders: what the kernel shows of the mount and of one below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_root;
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};

tests![
    of_two_flags_of_a_bind_the_later_counts,
    of_two_flags_of_a_remount_the_later_counts,
    of_two_flags_of_a_new_file_system_the_later_counts,
    a_later_recursive_read_only_is_not_written,
];

/// The word without its `r`, what it turns on, and what it turns off: words of mountinfo.
const WORDS: [(&str, &str, &[&str]); 18] = [
    ("ro", "ro", &[]),
    ("rw", "", &["ro"]),
    ("nosuid", "nosuid", &[]),
    ("suid", "", &["nosuid"]),
    ("nodev", "nodev", &[]),
    ("dev", "", &["nodev"]),
    ("noexec", "noexec", &[]),
    ("exec", "", &["noexec"]),
    ("nosymfollow", "nosymfollow", &[]),
    ("symfollow", "", &["nosymfollow"]),
    ("nodiratime", "nodiratime", &[]),
    ("diratime", "", &["nodiratime"]),
    ("noatime", "noatime", &["relatime"]),
    ("atime", "relatime", &["noatime"]),
    ("relatime", "relatime", &["noatime"]),
    ("norelatime", "relatime", &["noatime"]),
    ("strictatime", "", &["noatime", "relatime"]),
    ("nostrictatime", "relatime", &["noatime"]),
];

/// What mountinfo shows of a source without flags, and of one with many.
const SOURCES: [(&str, &str); 2] = [("bare", ""), ("full", "ro,nosuid,nodev,noexec,nosymfollow,nodiratime,noatime")];

type Flags = BTreeSet<String>;

/// The flags in the sixth field of mountinfo.
fn flags(field: &str) -> Flags {
    field.split(',').filter(|word| !matches!(*word, "rw" | "")).map(str::to_owned).collect()
}

/// What the word makes of the flags.
fn change(flags: &mut Flags, word: &str) {
    let (_, on, off) = WORDS.iter().find(|(name, ..)| *name == word).expect("a word of the table");
    flags.retain(|flag| !off.contains(&flag.as_str()));
    if !on.is_empty() {
        flags.insert((*on).to_owned());
    }
}

/// The word without the `r` of the recursive ones.
fn plain(word: &str) -> Option<&str> {
    word.strip_prefix('r').filter(|plain| WORDS.iter().any(|(name, ..)| name == plain))
}

/// The access times that a word for one mount takes back, if another such word has asked for them.
fn taken_back(word: &str) -> Option<&str> {
    word.strip_prefix("no").filter(|word| ["relatime", "strictatime"].contains(word))
}

/// Flags of the mount and of the one below, after options in their order.
fn expected(before: &str, options: &[&str]) -> [Flags; 2] {
    let (mut mount, mut below) = (flags(before), flags(before));
    if before.is_empty() {
        mount.insert("relatime".to_owned());
        below.insert("relatime".to_owned());
    }
    let (original, mut below_is_asked, mut asked) = (mount.clone(), false, None);
    let times = ["noatime", "relatime"];
    for option in options {
        let word = plain(option).unwrap_or(option);
        match (plain(option), taken_back(option)) {
            (Some(word), _) => {
                change(&mut mount, word);
                change(&mut below, word);
            }
            (None, Some(time)) if asked == Some(time) && !below_is_asked => {
                mount.retain(|flag| !times.contains(&flag.as_str()));
                mount.extend(original.iter().filter(|flag| times.contains(&flag.as_str())).cloned());
            }
            (None, Some(_)) => {}
            (None, None) => change(&mut mount, option),
        }
        if word.ends_with("atime") && !word.ends_with("diratime") {
            below_is_asked |= plain(option).is_some();
            // atime asks for relatime, the kernel's way of not being noatime.
            let word = if word == "atime" { "relatime" } else { word };
            asked = Some(word).filter(|_| taken_back(option).is_none());
        }
    }
    [mount, below]
}

/// All pairs of words, recursive ones too, in both orders.
fn pairs() -> Vec<[String; 2]> {
    let words: Vec<_> = WORDS.iter().flat_map(|(word, ..)| [(*word).to_owned(), format!("r{word}")]).collect();
    words.iter().flat_map(|one| words.iter().map(|other| [one.clone(), other.clone()])).collect()
}

/// What mountinfo shows of a container with these mounts as well, by mount point; the later of two on one hides the other.
fn shown(bundle: Bundle, mounts: Vec<Value>) -> BTreeMap<String, Flags> {
    let bundle = bundle.config(|spec| {
        let all = spec["mounts"].as_array_mut().expect("a list");
        all.push(json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs" }));
        all.extend(mounts);
    });
    let container = bundle.create(probe!(print "x"));
    for (name, _) in SOURCES {
        let source = container.bundle.dir.join(name);
        if source.exists() {
            let done = Command::new("umount").args(["-R", "-l"]).arg(&source).status().expect("umount");
            assert!(done.success(), "umount {source:?}");
        }
    }
    let line = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields[4].to_owned(), flags(fields[5]))
    };
    container.proc_file("mountinfo").lines().map(line).collect()
}

/// Two trees of two mounts on the host.
fn sources(bundle: &Bundle) {
    for (name, options) in SOURCES {
        let source = bundle.host_dir(name);
        mount_on_host(&["-t", "tmpfs", "top"], &source);
        let below = bundle.host_dir(&format!("{name}/below"));
        mount_on_host(&["-t", "tmpfs", "below"], &below);
        if !options.is_empty() {
            mount_on_host(&["-o", &format!("remount,bind,{options}")], &below);
            mount_on_host(&["-o", &format!("remount,bind,{options}")], &source);
        }
    }
}

fn mount_on_host(words: &[&str], target: &Path) {
    let done = Command::new("mount").args(words).arg(target).status().expect("mount");
    assert!(done.success(), "mount {words:?}");
}

/// Fails with every pair that is shown otherwise.
fn compare(cases: &[(String, String, [Flags; 2])], shown: &BTreeMap<String, Flags>) {
    let none = Flags::new();
    let mut wrong = Vec::new();
    for (at, what, [mount, below]) in cases {
        for (at, expected) in [(at.clone(), mount), (format!("{at}/below"), below)] {
            let is = shown.get(&at).unwrap_or(&none);
            if is != expected && shown.contains_key(&at) {
                wrong.push(format!("{what} at {at}: {is:?}, not {expected:?}"));
            }
        }
        assert!(shown.contains_key(at), "{what}: nothing is mounted at {at}");
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn of_two_flags_of_a_bind_the_later_counts() {
    need_root();
    let bundle = Bundle::new();
    sources(&bundle);
    let (mut mounts, mut cases) = (Vec::new(), Vec::new());
    for (name, before) in SOURCES {
        for (number, [one, other]) in pairs().iter().enumerate() {
            let at = format!("/m/{name}{number}");
            let options = ["rbind", one, other];
            mounts.push(json!({ "destination": at, "source": bundle.dir.join(name), "options": options }));
            cases.push((at, format!("{name} {options:?}"), expected(before, &options[1..])));
        }
    }
    compare(&cases, &shown(bundle, mounts));
}

fn of_two_flags_of_a_remount_the_later_counts() {
    need_root();
    let (name, before) = SOURCES[1];
    // The runtime keeps a descriptor of each mount that a later entry changes: 1,024 is all that many a caller may have.
    for pairs in pairs().chunks(400) {
        let bundle = Bundle::new();
        sources(&bundle);
        let (mut mounts, mut cases) = (Vec::new(), Vec::new());
        for (number, [one, other]) in pairs.iter().enumerate() {
            let at = format!("/m/{number}");
            let options = ["remount", "bind", one, other];
            mounts.push(json!({ "destination": at, "source": bundle.dir.join(name), "options": ["rbind"] }));
            mounts.push(json!({ "destination": at, "options": options }));
            cases.push((at, format!("{options:?}"), expected(before, &options[2..])));
        }
        compare(&cases, &shown(bundle, mounts));
    }
}

/// Only words about the same flag: each costs a file system.
fn of_two_flags_of_a_new_file_system_the_later_counts() {
    let (mut mounts, mut cases) = (Vec::new(), Vec::new());
    let about = |word: &str| {
        let word = plain(word).unwrap_or(word);
        let word = word.strip_prefix("no").unwrap_or(word);
        if matches!(word, "atime" | "relatime" | "strictatime") { "atime".to_owned() } else { word.replace('o', "w") }
    };
    for (number, [one, other]) in pairs().iter().enumerate().filter(|(_, [one, other])| about(one) == about(other)) {
        let at = format!("/m/{number}");
        let options = [one.as_str(), other];
        mounts.push(json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options }));
        cases.push((at, format!("tmpfs {options:?}"), expected("", &options)));
    }
    assert!(cases.len() > 200, "{}", cases.len());
    compare(&cases, &shown(Bundle::new(), mounts));
}

fn a_later_recursive_read_only_is_not_written() {
    for options in [&["rbind", "rw", "rro"][..], &["bind", "rw", "rro"], &["rbind", "ro", "rrw", "rro"]] {
        let bundle = Bundle::new();
        let source = bundle.host_dir("source").to_str().expect("UTF-8").to_owned();
        let output = bundle.mount("bind", &source, "/mnt", options).run(probe!(touch "/mnt/new"));
        assert_eq!(output.ok().answer()["error"], "EROFS", "{options:?}");
        assert!(!Path::new(&source).join("new").exists(), "{options:?}");
    }
}
