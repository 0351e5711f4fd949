//! Tells the compiler which commit this is, for `--version`; outside a git checkout there is none to tell. Tells the
//! linker which functions belong together: docs/decisions/0003-function-order.md.

use std::path::{Path, PathBuf};
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
    println!("cargo::rerun-if-changed=build/order.txt");
    // Nothing where there is no order: an empty argument is a file of that name for every linker but LLD.
    for argument in order().into_iter().flatten() {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}

/// The linker's arguments that put the functions of build/order.txt first; none where the linker does not know them. The
/// linker is called by a C compiler, which wants `-Wl,` before them, or by rustc itself.
fn order() -> Option<[String; 2]> {
    let variable = |name: &str| std::env::var(name).ok();
    let file = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("build/order.txt");
    let target = variable("TARGET")?;
    let path = file.to_str().filter(|path| !path.contains(','))?;
    if variable("PROFILE")? != "release" || !target.starts_with("x86_64-") || !file.exists() {
        return None;
    }
    ["-Wl,", ""].into_iter().find_map(|prefix| {
        let arguments = [format!("--symbol-ordering-file={path}"), "--no-warn-symbol-ordering".to_owned()]
            .map(|word| prefix.to_owned() + &word);
        links(&target, &arguments)?.then_some(arguments)
    })
}

/// Whether an empty program can be linked with these arguments of the linker, and those that cargo has for the target.
fn links(target: &str, arguments: &[String]) -> Option<bool> {
    let directory = PathBuf::from(std::env::var_os("OUT_DIR")?);
    let source = directory.join("empty.rs");
    std::fs::write(&source, "fn main() {}").ok()?;
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let linker = std::env::var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}"));
    let output = Command::new(std::env::var_os("RUSTC")?)
        .args(["--target", target, "-o"])
        .args([directory.join("empty"), source])
        .args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()))
        .args(linker.ok())
        .args(arguments.iter().map(|argument| format!("-Clink-arg={argument}")))
        .output();
    Some(output.ok()?.status.success())
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
