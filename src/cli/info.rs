//! `ocirt info`, which is youki's: what a report about this host has to say.

use std::fs;

use anyhow::Result;
use clap::Args;

use super::output::print;
use super::version;

/// Show what this host offers containers
///
/// A line a fact: runtime, kernel, hardware, cgroups, namespaces, security modules, capabilities. It is for people and
/// for reports of faults; what this runtime implements is said by `features`.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Info {}

/// What the kernel does not say.
const UNKNOWN: &str = "unknown";

impl Info {
    pub fn execute(self) -> Result<()> {
        let mut text = String::new();
        for (name, value) in facts() {
            let value = if value.is_empty() { UNKNOWN } else { &value };
            text.push_str(&format!("{name:<18}{value}\n"));
        }
        print(&text)
    }
}

fn facts() -> Vec<(&'static str, String)> {
    let mounts = read("/proc/self/mounts");
    vec![
        ("Version", version::VERSION.to_owned()),
        ("Commit", version::COMMIT.unwrap_or(UNKNOWN).to_owned()),
        ("Spec", version::SPEC.to_owned()),
        ("Kernel-Release", read("/proc/sys/kernel/osrelease")),
        ("Kernel-Version", read("/proc/sys/kernel/version")),
        ("Architecture", std::env::consts::ARCH.to_owned()),
        ("Operating System", operating_system()),
        ("Cores", std::thread::available_parallelism().map(|count| count.to_string()).unwrap_or_default()),
        ("Total Memory", colon_field(&read("/proc/meminfo"), "MemTotal").to_owned()),
        ("Cgroup setup", cgroup_setup(&mounts).to_owned()),
        ("Cgroup mounts", cgroup_mounts(&mounts).join(" ")),
        ("Controllers", controllers(&read("/proc/cgroups")).join(" ")),
        ("Namespaces", names("/proc/self/ns").join(" ")),
        ("User namespaces", read("/proc/sys/user/max_user_namespaces")),
        ("Security modules", read("/sys/kernel/security/lsm").replace(',', " ")),
        ("Seccomp actions", read("/proc/sys/kernel/seccomp/actions_avail")),
        ("Capabilities", colon_field(&read("/proc/self/status"), "CapBnd").to_owned()),
    ]
}

/// A small file of the kernel's, without the newline; nothing if it is not there.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

/// os-release(5): the first of the two files that is there.
fn operating_system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_else(|_| read("/usr/lib/os-release"));
    pretty_name(&text).to_owned()
}

fn pretty_name(text: &str) -> &str {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim_matches(['"', '\''])
}

/// `value` of the line `name: value`.
fn colon_field<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim()
}

/// The mounts of cgroup file systems, proc_pid_mounts(5): device, mount point, type.
fn cgroup_mounts(mounts: &str) -> Vec<&str> {
    let is_cgroup = |kind: &str| kind == "cgroup" || kind == "cgroup2";
    mounts.lines().filter_map(|line| mount(line).filter(|(_, kind)| is_cgroup(kind)).map(|(path, _)| path)).collect()
}

/// systemd's words for what is mounted where.
fn cgroup_setup(mounts: &str) -> &'static str {
    let has = |wanted: &str| mounts.lines().filter_map(mount).any(|(_, kind)| kind == wanted);
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "legacy",
        (false, true) => "unified",
        (false, false) => "none",
    }
}

fn mount(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ').skip(1);
    Some((words.next()?, words.next()?))
}

/// Controllers that the kernel has and that are not switched off, cgroups(7), "/proc/cgroups".
fn controllers(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.ends_with('1'));
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with("_for_children"));
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn the_cgroup_setup_is_told_from_the_mounts() {
        assert_eq!(cgroup_setup(MOUNTS), "hybrid");
        assert_eq!(cgroup_setup("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), "unified");
        assert_eq!(cgroup_setup("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), "legacy");
        assert_eq!(cgroup_setup("cgroup /tmp tmpfs rw 0 0\n"), "none");
        assert_eq!(cgroup_mounts(MOUNTS), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn facts_are_found_in_files_of_the_host() {
        assert_eq!(pretty_name("NAME=Debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(pretty_name("NAME=Debian\n"), "");
        assert_eq!(colon_field("MemFree: 1 kB\nMemTotal:   2 kB\n", "MemTotal"), "2 kB");
        assert_eq!(colon_field("MemTotalX: 1\n", "MemTotal"), "");
        assert_eq!(controllers("#name hierarchy cgroups on\ncpu\t1\t2\t1\nrdma\t1\t2\t0\n"), ["cpu"]);
    }
}
