//! crun's annotations: settings that config.json has no field for (crun.1, "Extensions to OCI"). docs/coverage.md has a
//! row for each, also for those that are not ours.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::error::field;

/// What the annotations of a container ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Annotations<'a> {
    /// The supplementary groups stay the caller's of the runtime: Podman's `--group-add keep-groups`.
    pub keep_original_groups: bool,
    /// Files on the host to which hooks write.
    pub hooks_stdout: Option<&'a Path>,
    pub hooks_stderr: Option<&'a Path>,
    /// The filter, instead of linux.seccomp's: struct sock_filter, as base64.
    pub seccomp_bpf_data: Option<&'a str>,
    /// A name that no architecture has is an error.
    pub seccomp_fail_unknown_syscall: bool,
    /// The seccomp agent of a profile without listenerPath.
    pub seccomp_receiver: Option<&'a Path>,
    /// Which of SELinux' mount options has linux.mountLabel; None: `context`.
    pub mount_context_type: Option<&'static str>,
    /// What `--pidfd-socket` is.
    pub pidfd_receiver: Option<&'a Path>,
}

/// mount(8), "SELinux".
const MOUNT_CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// What would be another container without them.
const REFUSED: [(&str, &str); 2] = [
    ("run.oci.handler", "containers run as they are, no handler is supported"),
    ("run.oci.seccomp.plugins", "plugins are not supported (linux.seccomp.listenerPath has an agent)"),
];

/// What crun does with systemd's cgroups, which is missed but by engines that ask for it.
const WITHOUT_EFFECT: [&str; 3] =
    ["run.oci.systemd.subgroup", "run.oci.delegate-cgroup", "run.oci.systemd.force_cgroup_v1"];

/// The settings in `all`. Other annotations are somebody else's; a value that is none is an error.
pub fn compile(all: &HashMap<String, String>) -> Result<Annotations<'_>> {
    let get = |name: &str| all.get(name).map(String::as_str);
    for (name, why) in REFUSED {
        ensure!(get(name).is_none_or(str::is_empty), field!("annotations.{name}"; "{why}"));
    }
    let path = |name: &str| -> Result<Option<&Path>> {
        let path = get(name).filter(|path| !path.is_empty()).map(Path::new);
        ensure!(path.is_none_or(Path::is_absolute), field!("annotations.{name}"; "not an absolute path"));
        Ok(path)
    };
    let mount_context = "run.oci.mount_context_type";
    Ok(Annotations {
        keep_original_groups: switch("run.oci.keep_original_groups", get)?,
        hooks_stdout: path("run.oci.hooks.stdout")?,
        hooks_stderr: path("run.oci.hooks.stderr")?,
        seccomp_bpf_data: get("run.oci.seccomp_bpf_data").filter(|data| !data.is_empty()),
        seccomp_fail_unknown_syscall: switch("run.oci.seccomp_fail_unknown_syscall", get)?,
        seccomp_receiver: path("run.oci.seccomp.receiver")?,
        mount_context_type: get(mount_context)
            .map(mount_context_type)
            .transpose()
            .context(field!("annotations.{mount_context}"))?,
        pidfd_receiver: path("run.oci.pidfd_receiver")?,
    })
}

/// A line for each annotation that is known and has no effect.
pub fn warnings(all: &HashMap<String, String>) -> Vec<String> {
    let set = WITHOUT_EFFECT.iter().filter(|name| all.contains_key(**name));
    set.map(|name| format!("annotations.{name}: not supported, has no effect")).collect()
}

fn switch<'a>(name: &str, get: impl Fn(&str) -> Option<&'a str>) -> Result<bool> {
    match get(name) {
        Some("1") => Ok(true),
        None | Some("" | "0") => Ok(false),
        Some(other) => bail!(field!("annotations.{name}"; "{other:?} is neither 0 nor 1")),
    }
}

fn mount_context_type(text: &str) -> Result<&'static str> {
    let known = MOUNT_CONTEXTS.into_iter().find(|known| *known == text);
    known.with_context(|| format!("{text:?} is none of {}", MOUNT_CONTEXTS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> HashMap<String, String> {
        [(name.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn other_annotations_say_nothing() {
        assert_eq!(compile(&of("org.example", "1")).unwrap(), Annotations::default());
        assert_eq!(compile(&of("run.oci.handler", "")).unwrap(), Annotations::default());
        assert!(warnings(&of("run.oci.hooks.stdout", "/x")).is_empty());
    }

    #[test]
    fn each_is_read() {
        let all: HashMap<String, String> = [
            ("run.oci.keep_original_groups", "1"),
            ("run.oci.hooks.stdout", "/out"),
            ("run.oci.hooks.stderr", "/err"),
            ("run.oci.seccomp_bpf_data", "BgAAAAAA/38="),
            ("run.oci.seccomp_fail_unknown_syscall", "1"),
            ("run.oci.seccomp.receiver", "/agent"),
            ("run.oci.mount_context_type", "rootcontext"),
            ("run.oci.pidfd_receiver", "/pidfd"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let expected = Annotations {
            keep_original_groups: true,
            hooks_stdout: Some(Path::new("/out")),
            hooks_stderr: Some(Path::new("/err")),
            seccomp_bpf_data: Some("BgAAAAAA/38="),
            seccomp_fail_unknown_syscall: true,
            seccomp_receiver: Some(Path::new("/agent")),
            mount_context_type: Some("rootcontext"),
            pidfd_receiver: Some(Path::new("/pidfd")),
        };
        assert_eq!(compile(&all).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_annotation() {
        for (name, value, expected) in [
            (
                "run.oci.keep_original_groups",
                "yes",
                "annotations.run.oci.keep_original_groups: \"yes\" is neither 0 nor 1",
            ),
            ("run.oci.hooks.stdout", "out", "annotations.run.oci.hooks.stdout: not an absolute path"),
            (
                "run.oci.mount_context_type",
                "x",
                "annotations.run.oci.mount_context_type: \"x\" is none of context, fscontext, defcontext, rootcontext",
            ),
            (
                "run.oci.handler",
                "krun",
                "annotations.run.oci.handler: containers run as they are, no handler is supported",
            ),
            (
                "run.oci.seccomp.plugins",
                "/p.so",
                "annotations.run.oci.seccomp.plugins: plugins are not supported (linux.seccomp.listenerPath has an agent)",
            ),
        ] {
            assert_eq!(format!("{:#}", compile(&of(name, value)).unwrap_err()), expected);
        }
        let ignored = ["annotations.run.oci.systemd.subgroup: not supported, has no effect"];
        assert_eq!(warnings(&of("run.oci.systemd.subgroup", "x")), ignored);
    }
}
