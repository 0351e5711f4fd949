//! Checkpoint and restore as an engine asks for it, with a CRIU that works on this kernel.

use crate::bundle::{Bundle, Container};
use crate::needs::{Need, need, need_ocirt, need_root};
use crate::runtime::{Call, Output, call, kind};
use crate::wait::eventually;
use crate::{host, probe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory of a criu: of the one that `OCIRT_CRIU` names, of the one that scripts/criu has fetched, or of the
/// system's. None that finds this kernel wanting, and none without the program by which CRIU locks a network.
pub fn directory() -> Option<PathBuf> {
    let home = std::env::var_os("OCIRT_CACHE").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        Some(cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?.join("ocirt"))
    });
    let fetched = home.map(|home| home.join("criu-trixie/usr/sbin/criu"));
    let named = std::env::var_os("OCIRT_CRIU").filter(|path| !path.is_empty()).map(PathBuf::from);
    let system = ["/usr/sbin/criu", "/usr/local/sbin/criu", "/usr/bin/criu"].map(PathBuf::from);
    let mut all = named.into_iter().chain(fetched).chain(system);
    let works = |path: &PathBuf| succeeds(path, &["check"]) && succeeds(Path::new("iptables-restore"), &["--version"]);
    all.find(works)?.parent().map(Path::to_owned)
}

/// Whether the kernel has what `criu check --feature` calls `name`.
pub fn has_feature(name: &str) -> bool {
    directory().is_some_and(|directory| succeeds(&directory.join("criu"), &["check", "--feature", name]))
}

fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Skips the test where nothing can be checkpointed.
pub fn required() {
    // docs/runc-behavior.md, "crun": Debian's has no CRIU, or needs a library that no other package does.
    let calls_it = kind() != "crun" && call(["checkpoint", "--help"]).status == 0;
    need(Need::Criu, directory().is_some() && calls_it);
    // CRIU itself needs root's capabilities.
    need_root();
}

/// The same, for what only ocirt promises.
pub fn ocirt() {
    required();
    need_ocirt();
}

/// `call` with criu in its PATH.
pub fn with_criu(call: Call) -> Call {
    let directory = directory().unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    call.env("PATH", &format!("{}:{path}", directory.display()))
}

/// A directory for images.
pub fn images() -> PathBuf {
    host::place().join("images")
}

/// `checkpoint --image-path IMAGES FLAGS ID`.
pub fn checkpoint(id: &str, flags: &[&str]) -> Output {
    let images = images();
    let mut words = vec!["checkpoint", "--image-path", images.to_str().expect("UTF-8")];
    words.extend(flags);
    words.push(id);
    with_criu(Call::new(words)).run()
}

/// The call `restore --image-path IMAGES --bundle BUNDLE FLAGS ID`.
pub fn restore_call(bundle: &Bundle, flags: &[&str]) -> Call {
    let images = images();
    let mut words = vec!["restore", "--image-path", images.to_str().expect("UTF-8"), "--bundle"];
    words.push(bundle.dir.to_str().expect("UTF-8"));
    words.extend(flags);
    words.push(&bundle.id);
    with_criu(Call::new(words))
}

/// Restores it detached.
pub fn restore(bundle: &Bundle) -> Output {
    restore_call(bundle, &["--detach"]).run()
}

/// A container that counts in its file `/count`, started.
pub fn counting(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(count "/count"));
    container.start().ok();
    eventually("the container counts", || count(&container.bundle) > 3);
    container
}

/// How far it has counted; 0 before it has begun.
pub fn count(bundle: &Bundle) -> u32 {
    let text = std::fs::read_to_string(bundle.inside("/count")).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Fails unless it counts on from `before`, without having begun anew.
#[track_caller]
pub fn assert_counts_on(bundle: &Bundle, before: u32) {
    let now = count(bundle);
    assert!(now >= before, "it began anew: {now} after {before}");
    eventually(&format!("it counts on from {before}"), || count(bundle) > now + 3);
}

/// Saves a counting container, which is deleted thereby; how far it had come.
#[track_caller]
pub fn save(container: &Container, flags: &[&str]) -> u32 {
    checkpoint(container.id(), flags).ok();
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
    count(&container.bundle)
}
