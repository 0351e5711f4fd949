//! Files of procfs and sysfs that show, or may do, what whoever has opened them may: CRIU opens what an image names with all
//! capabilities, and hands it to a process that has none.

use std::path::Path;

use caps::Capability::{self, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RAWIO, CAP_SYSLOG};

/// The kernel's log, addresses of the kernel and its memory.
const OF_PROC: [(&str, Capability); 4] =
    [("kmsg", CAP_SYSLOG), ("kallsyms", CAP_SYSLOG), ("modules", CAP_SYSLOG), ("kcore", CAP_SYS_RAWIO)];

/// The addresses of physical memory, of a process.
const PAGEMAP: &str = "pagemap";

/// What is another process's: proc_pid_mem(5) and what is like it (ptrace_may_access of the kernel, when it is opened).
const OF_A_PROCESS: [&str; 7] = ["mem", "maps", "smaps", "smaps_rollup", "numa_maps", "environ", "auxv"];

/// What is behind the first 64 bytes of a PCI device's configuration, and its product data.
const OF_A_DEVICE: [&str; 2] = ["config", "vpd"];

/// The capability with which a file of a file system `kind`, at `path` in that, is to be opened; `own` are the directories of the process
/// that has it open.
pub fn needed(kind: &str, path: &Path, own: &[String]) -> Option<Capability> {
    let mut parts = path.iter().filter_map(|part| part.to_str()).skip_while(|part| *part == "/");
    let (first, last) = (parts.next()?, path.file_name()?.to_str()?);
    match kind {
        "proc" if first.bytes().all(|byte| byte.is_ascii_digit()) => {
            let is_others = !own.iter().any(|own| own == first) && OF_A_PROCESS.contains(&last);
            (last == PAGEMAP).then_some(CAP_SYS_ADMIN).or(is_others.then_some(CAP_SYS_PTRACE))
        }
        "proc" => OF_PROC.iter().find(|(name, _)| path == Path::new("/").join(name)).map(|(_, capability)| *capability),
        // Addresses of the kernel's modules.
        "sysfs" if parts.any(|part| part == "sections") => Some(CAP_SYSLOG),
        "sysfs" => OF_A_DEVICE.contains(&last).then_some(CAP_SYS_ADMIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_opener_decides_about_takes_a_capability() {
        let own = ["7".to_owned(), "9".to_owned()];
        for (kind, path, expected) in [
            ("proc", "/kmsg", Some(CAP_SYSLOG)),
            ("proc", "/kallsyms", Some(CAP_SYSLOG)),
            ("proc", "/kcore", Some(CAP_SYS_RAWIO)),
            ("proc", "/meminfo", None),
            ("proc", "/sys/kernel/modules", None),
            ("proc", "/7/maps", None),
            ("proc", "/7/task/9/environ", None),
            ("proc", "/8/maps", Some(CAP_SYS_PTRACE)),
            ("proc", "/8/task/8/mem", Some(CAP_SYS_PTRACE)),
            ("proc", "/8/stat", None),
            ("proc", "/7/pagemap", Some(CAP_SYS_ADMIN)),
            ("proc", "/", None),
            ("sysfs", "/module/ext4/sections/.text", Some(CAP_SYSLOG)),
            ("sysfs", "/devices/pci0000:00/0000:00:00.0/config", Some(CAP_SYS_ADMIN)),
            ("sysfs", "/class/net/lo/mtu", None),
            ("tmpfs", "/kmsg", None),
        ] {
            assert_eq!(needed(kind, Path::new(path), &own), expected, "{kind} {path}");
        }
    }
}
