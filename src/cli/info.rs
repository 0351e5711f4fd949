//! `ocirt info`, which is youki's: what a report about this host has to say.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::output::print;
use super::{json, version};
use crate::container::features;

/// Show what this host offers containers
///
/// A line a fact: runtime, kernel, hardware, cgroups, namespaces, security modules, capabilities. It is for people and
/// for reports of faults; what this runtime implements is said by `features`.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Info {
    /// Format of the facts: table or json [default: table]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    format: String,
}

/// What the kernel does not say.
const UNKNOWN: &str = "unknown";

/// What is known of one thing: for people, for programs.
struct Fact {
    name: &'static str,
    key: &'static str,
    value: FactValue,
}

enum FactValue {
    Text(String),
    List(Vec<String>),
}

/// An object with the facts in their order. What is not known is null, or an empty array.
struct FactList(Vec<Fact>);

impl Info {
    pub fn execute(self) -> Result<()> {
        print(&self.text(&FactList(facts()))?)
    }

    fn text(&self, facts: &FactList) -> Result<String> {
        match self.format.as_str() {
            "table" => Ok(facts.0.iter().map(Fact::line).collect()),
            "json" => Ok(json::indented(facts, "  ")? + "\n"),
            _ => bail!("info: invalid format option"),
        }
    }
}

impl Fact {
    fn text(name: &'static str, key: &'static str, value: String) -> Self {
        Self { name, key, value: FactValue::Text(value) }
    }

    fn list(name: &'static str, key: &'static str, values: Vec<String>) -> Self {
        Self { name, key, value: FactValue::List(values) }
    }

    fn line(&self) -> String {
        let value = match &self.value {
            FactValue::Text(text) => text.clone(),
            FactValue::List(values) => values.join(" "),
        };
        format!("{:<18}{}\n", self.name, if value.is_empty() { UNKNOWN } else { &value })
    }
}

impl Serialize for FactList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for fact in &self.0 {
            match &fact.value {
                FactValue::Text(text) => {
                    object.serialize_entry(fact.key, &Some(text).filter(|text| !text.is_empty()))?
                }
                FactValue::List(values) => object.serialize_entry(fact.key, values)?,
            }
        }
        object.end()
    }
}

fn facts() -> Vec<Fact> {
    let mounts = read("/proc/self/mounts");
    let cores = std::thread::available_parallelism().map(|count| count.to_string()).unwrap_or_default();
    let memory = colon_field(&read("/proc/meminfo"), "MemTotal").to_owned();
    let capabilities = capabilities(colon_field(&read("/proc/self/status"), "CapBnd"));
    vec![
        Fact::text("Version", "version", version::VERSION.to_owned()),
        Fact::text("Commit", "commit", version::COMMIT.unwrap_or_default().to_owned()),
        Fact::text("Spec", "spec", version::SPEC.to_owned()),
        Fact::text("Kernel-Release", "kernelRelease", read("/proc/sys/kernel/osrelease")),
        Fact::text("Kernel-Version", "kernelVersion", read("/proc/sys/kernel/version")),
        Fact::text("Architecture", "architecture", std::env::consts::ARCH.to_owned()),
        Fact::text("Operating System", "operatingSystem", operating_system()),
        Fact::text("Cores", "cores", cores),
        Fact::text("Total Memory", "totalMemory", memory),
        Fact::text("Cgroup setup", "cgroupSetup", cgroup_setup(&mounts).to_owned()),
        Fact::list("Cgroup mounts", "cgroupMounts", cgroup_mounts(&mounts)),
        Fact::list("Controllers", "controllers", controllers(&read("/proc/cgroups"))),
        Fact::list("Namespaces", "namespaces", names("/proc/self/ns")),
        Fact::text("User namespaces", "maxUserNamespaces", read("/proc/sys/user/max_user_namespaces")),
        Fact::list("Security modules", "securityModules", security_modules()),
        Fact::list("Seccomp actions", "seccompActions", words(&read("/proc/sys/kernel/seccomp/actions_avail"))),
        Fact::list("Capabilities", "capabilities", capabilities),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The names of a mask of /proc/PID/status; one that is newer than this program has its number.
fn capabilities(mask: &str) -> Vec<String> {
    let mask = u64::from_str_radix(mask, 16).unwrap_or(0);
    let name = |number| features::capability(number).map_or_else(|| format!("CAP_{number}"), str::to_owned);
    (0..u64::BITS).filter(|number| mask >> number & 1 == 1).map(name).collect()
}

/// The modules that the kernel runs, in its order. Where no securityfs is mounted, those that show otherwise.
fn security_modules() -> Vec<String> {
    let text = read("/sys/kernel/security/lsm");
    if !text.is_empty() {
        return text.split(',').map(str::to_owned).collect();
    }
    // proc_pid_attr(5): a directory for each of two modules; a file system of SELinux's own.
    let places = [
        ("apparmor", "/proc/self/attr/apparmor/current"),
        ("smack", "/proc/self/attr/smack/current"),
        ("selinux", "/sys/fs/selinux/enforce"),
    ];
    let runs = |path: &str| Path::new(path).exists() && fs::read(path).is_ok();
    places.iter().filter(|(_, path)| runs(path)).map(|(name, _)| (*name).to_owned()).collect()
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
fn cgroup_mounts(mounts: &str) -> Vec<String> {
    let is_cgroup = |kind: &str| kind == "cgroup" || kind == "cgroup2";
    let all = mounts.lines().filter_map(mount);
    all.filter(|(_, kind)| is_cgroup(kind)).map(|(path, _)| path.to_owned()).collect()
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
fn controllers(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.ends_with('1'));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
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
    #[test]
    fn capabilities_have_their_names() {
        assert_eq!(capabilities("0000000000001001"), ["CAP_CHOWN", "CAP_NET_ADMIN"]);
        assert_eq!(capabilities("000001ffffffffff").len(), 41);
        assert_eq!(capabilities("0000020000000000"), ["CAP_41"]);
        assert!(capabilities("").is_empty());
    }

    #[test]
    fn facts_are_lines_or_an_object() {
        let facts = || {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            FactList(vec![
                Fact::text("Version", "version", "1".to_owned()),
                Fact::text("Commit", "commit", String::new()),
                Fact::list("Security modules", "securityModules", list(&["lockdown", "apparmor"])),
                Fact::list("Controllers", "controllers", Vec::new()),
            ])
        };
        let text = |format: &str| Info { format: format.to_owned() }.text(&facts());
        assert_eq!(
            text("table").unwrap(),
            "Version           1\nCommit            unknown\nSecurity modules  lockdown apparmor\nControllers       unknown\n"
        );
        let object = "{\n  \"version\": \"1\",\n  \"commit\": null,\n  \"securityModules\": [\n    \"lockdown\",\n    \
                      \"apparmor\"\n  ],\n  \"controllers\": []\n}\n";
        assert_eq!(text("json").unwrap(), object);
        assert_eq!(text("xml").unwrap_err().to_string(), "info: invalid format option");
    }
}
