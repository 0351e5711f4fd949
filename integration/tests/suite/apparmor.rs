//! AppArmor in effect: a profile of the test's own confines what `process.apparmorProfile` and `exec --apparmor` name.
//!
//! It needs a kernel with AppArmor and apparmor_parser(8), as the guest of `scripts/vm-run` has them.

use super::exec::{exec, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need};
use ocirt_integration::runtime::Output;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

tests![a_profile_confines_the_container_and_exec, a_profile_that_is_not_loaded_runs_nothing];

const PARSER: &str = "/usr/sbin/apparmor_parser";
const SECURITYFS: &str = "/sys/kernel/security";

/// Where the kernel shows its profiles; mounted for as long as this lives, in the mount namespace of the test.
struct Securityfs {
    mounted: bool,
}

impl Securityfs {
    /// Skips the test without AppArmor.
    fn required() -> Self {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        need(Need::Apparmor, enabled.trim() == "Y" && Path::new(PARSER).exists());
        let mounted = !Path::new(SECURITYFS).join("apparmor").exists();
        if mounted {
            succeed("mount", &["-t", "securityfs", "securityfs", SECURITYFS]);
        }
        Self { mounted }
    }

    fn knows(&self, profile: &str) -> bool {
        let all = std::fs::read_to_string(format!("{SECURITYFS}/apparmor/profiles")).expect("profiles");
        all.lines().any(|line| line.split(' ').next() == Some(profile))
    }

    fn end(self) {
        if self.mounted {
            succeed("umount", &[SECURITYFS]);
        }
    }
}

#[track_caller]
fn succeed(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Everything is allowed, but for one file.
fn load(name: &str) -> PathBuf {
    let file = host::place().join("profile");
    let rules = "file, capability, network, mount, umount, pivot_root, signal, ptrace, unix, deny /data/secret rwklx,";
    std::fs::write(&file, format!("profile {name} flags=(attach_disconnected) {{ {rules} }}\n")).expect("profile");
    succeed(PARSER, &["--replace", "--skip-cache", file.to_str().expect("UTF-8")]);
    file
}

fn questions() -> Vec<String> {
    probe!(read "/proc/self/attr/current"; read "/data/secret"; read "/data/open")
}

fn bundle() -> Bundle {
    Bundle::new().file("data/secret", "42").file("data/open", "43")
}

#[track_caller]
fn assert_confined(output: Output, name: &str) {
    let answers = output.ok().answers();
    assert_eq!(answers[0].as_str().map(str::trim), Some(format!("{name} (enforce)").as_str()), "{answers:?}");
    assert_eq!((&answers[1]["error"], &answers[2]), (&json!("EACCES"), &json!("43")));
}

/// All is asked before anything is judged, so that the profile is removed whatever comes out.
fn a_profile_confines_the_container_and_exec() {
    let securityfs = Securityfs::required();
    let name = host::new_id();
    let free = running(bundle());
    let file = load(&name);
    let loaded = securityfs.knows(&name);
    let confined = bundle().set("process.apparmorProfile", json!(name)).run(questions());
    let entered = exec(&free, &["--apparmor", &name], questions()).run();
    let unconfined = exec(&free, &[], questions()).run();
    succeed(PARSER, &["--remove", file.to_str().expect("UTF-8")]);
    let removed = !securityfs.knows(&name);
    securityfs.end();
    assert!(loaded && removed, "{loaded} {removed}");
    assert_confined(confined, &name);
    assert_confined(entered, &name);
    let answers = unconfined.ok().answers();
    assert_eq!((answers[0].as_str().map(str::trim), &answers[1]), (Some("unconfined"), &json!("42")));
}

fn a_profile_that_is_not_loaded_runs_nothing() {
    Securityfs::required().end();
    let name = host::new_id();
    bundle().set("process.apparmorProfile", json!(name)).refused("apparmor");
    let output = exec(&running(bundle()), &["--apparmor", &name], probe!(print "it ran")).run();
    assert!(output.status != 0 && !output.stdout.contains("it ran"), "{output:?}");
    assert!(output.stderr.contains("apparmor"), "{output:?}");
}
