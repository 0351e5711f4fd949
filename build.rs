//! Tells the compiler which commit this is, for `--version`. Outside a git checkout there is none to tell.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=OCIRT_COMMIT");
    // Packagers, who build from a tarball, may say it themselves.
    if let Some(commit) = std::env::var("OCIRT_COMMIT").ok().or_else(commit) {
        println!("cargo::rustc-env=OCIRT_COMMIT={commit}");
    }
    // Appended to by every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// The checked-out commit of the repository whose top is this package, not of one that merely surrounds it.
fn commit() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let package = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let same = std::fs::canonicalize(top).ok()? == std::fs::canonicalize(package).ok()?;
    if same { git(&["rev-parse", "HEAD"]) } else { None }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
