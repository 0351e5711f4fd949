//! Is it the same container? Asked once of every runtime before anything is measured.

use anyhow::{Result, ensure};

use crate::bundle::{self, CAPABILITIES, Shape};
use crate::host::Host;
use crate::peer::Peer;

/// Prints what the config asks for, as the container's program sees it.
const SCRIPT: &str = r"
hostname
grep -E '^(CapBnd|CapEff|Seccomp):' /proc/self/status
(echo changed > /proc/sys/kernel/hostname) 2>/dev/null && echo proc-sys-writable
cat /proc/keys 2>/dev/null
ls /sys/firmware 2>/dev/null
ls /dev | wc -l
grep -c . /proc/net/dev
grep -c ' /dev/shm \| /dev/mqueue \| /dev/pts \| /etc/hosts \| /sys/fs/cgroup' /proc/mounts
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
echo mounted > /dev/null && echo null-works
";

/// Fails, naming the difference, if the container of the seccomp config is not what the config says.
pub fn check(peer: &Peer, host: &Host) -> Result<()> {
    // The floor's plan has one argument a line.
    let script = SCRIPT.trim().replace('\n', "; ");
    let bundle = bundle::write(
        host,
        &Shape { name: "probe", args: &["/bin/sh", "-c", &script], seccomp: true, ..Shape::default() },
    )?;
    let outcome = peer.measure(&["run", "--bundle", &bundle.to_string_lossy(), "probe"], 0)?.expect_success()?;
    let seen: Vec<String> = outcome.output.lines().map(|line| line.replace('\t', " ")).collect();
    let capabilities = format!("{CAPABILITIES:016x}");
    let mut expected = vec![
        "bench".to_owned(),
        format!("CapEff: {capabilities}"),
        format!("CapBnd: {capabilities}"),
        "Seccomp: 2".to_owned(),
    ];
    expected.extend([
        "14".to_owned(),
        "3".to_owned(),
        cgroup_mounts(host),
        bundle::ROOMY.to_string(),
        "null-works".to_owned(),
    ]);
    // crun makes an empty /dev/console.
    let mut normal = seen.clone();
    if let Some(count) = normal.get_mut(4).filter(|count| ["14", "15"].contains(&count.as_str())) {
        *count = "14".to_owned();
    }
    ensure!(normal == expected, "not the container that was asked for: {seen:?}, expected {expected:?}");
    Ok(())
}

fn cgroup_mounts(host: &Host) -> String {
    let own = if host.unified { 1 } else { 1 + host.hierarchies.len() };
    (4 + own).to_string()
}
