//! `process.cwd`: the working directory (config.md, "Process").
//!
//! Nothing here may lead to a directory of the host that a descriptor of init still refers to: /proc/self/fd/7 as a
//! working directory was CVE-2024-21626.

use core::cell::Cell;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::{Errno, Fault, SysError, beneath, program};

/// A path in the container, and whether init is there already.
#[derive(Debug)]
pub struct WorkingDirectory {
    path: CString,
    /// Every component with the path that ends in it.
    steps: Vec<(CString, CString)>,
    entered: Cell<bool>,
}

/// The prepared directory; `cwd` must be absolute.
pub fn compile(cwd: &Path) -> Result<WorkingDirectory> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = cwd.as_os_str().as_bytes();
    if !bytes.starts_with(b"/") {
        bail!(field!("process.cwd"; "cwd must be an absolute path, not {cwd:?}"));
    }
    let path = CString::new(bytes).context(field!("process.cwd"))?;
    let mut steps = Vec::new();
    let mut end = 0;
    for name in bytes.split(|byte| *byte == b'/') {
        end += name.len() + 1;
        if !name.is_empty() {
            let whole = bytes.get(..end - 1).unwrap_or(bytes);
            steps.push((
                CString::new(name).context(field!("process.cwd"))?,
                CString::new(whole).context(field!("process.cwd"))?,
            ));
        }
    }
    Ok(WorkingDirectory { path, steps, entered: Cell::new(false) })
}

impl WorkingDirectory {
    /// Makes what is missing of the directory, mode 0755, owned by the container's root. Belongs after pivot_root and
    /// before the root turns read-only.
    pub fn create(&self) -> Result<(), Fault> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let root = beneath::root()?;
        let about = |error: SysError| error.about(&self.path);
        match beneath::directory_in_root(root.as_fd(), &self.path) {
            Ok(_) => return Ok(()),
            Err(SysError { errno: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(about(error)),
        }
        let mut parent: Option<OwnedFd> = None;
        for (name, whole) in &self.steps {
            let here = parent.as_ref().unwrap_or(&root).as_fd();
            match beneath::directory_in_root(root.as_fd(), whole) {
                Err(SysError { errno: Errno::ENOENT, .. }) => match beneath::make_directory(here, name, 0o755) {
                    // A dangling link: the second look below says so.
                    Ok(()) | Err(SysError { errno: Errno::EEXIST, .. }) => {
                        parent = Some(beneath::directory_in_root(root.as_fd(), whole).map_err(about)?);
                    }
                    Err(error) => return Err(about(error)),
                },
                other => parent = Some(other.map_err(about)?),
            }
        }
        Ok(())
    }

    /// Before the ids change: enters the directory if the runtime's user may, so that one is found that only root can
    /// reach, as in runc. Otherwise [`Self::enter`] tries again.
    pub fn enter_early(&self) -> Result<(), Fault> {
        match program::change_directory(&self.path) {
            Err(SysError { errno: Errno::EACCES | Errno::EPERM, .. }) => Ok(()),
            other => {
                other.map_err(|error| error.about(&self.path))?;
                self.entered.set(true);
                self.verify()
            }
        }
    }

    /// After the ids have changed: enters the directory unless init is there, and verifies that it is the container's.
    pub fn enter(&self) -> Result<(), Fault> {
        if self.entered.get() {
            return Ok(());
        }
        program::change_directory(&self.path).map_err(|error| error.about(&self.path))?;
        self.verify()
    }

    fn verify(&self) -> Result<(), Fault> {
        match program::directory_is_reachable() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::new("getcwd", Errno::ENOENT, "process.cwd lies outside of the container's root")),
            Err(error) => Err(error.about(&self.path)),
        }
    }
}

impl fmt::Display for WorkingDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enter {}", self.path.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credentials;
    use crate::sys::testing::{heap_free, in_a_child};

    fn at(path: &str) -> WorkingDirectory {
        compile(Path::new(path)).expect("compiles")
    }

    #[test]
    fn a_relative_path_is_refused() {
        let error = compile(Path::new("etc")).expect_err("relative").to_string();
        assert!(error.starts_with("process.cwd: cwd must be an absolute path"), "{error}");
        let error = format!("{:#}", compile(Path::new("/a\0b")).expect_err("a NUL byte"));
        assert!(error.starts_with("process.cwd: nul byte"), "{error}");
    }

    #[test]
    fn every_component_has_the_path_up_to_it() {
        let paths: Vec<_> = at("/a//b/../c/").steps.into_iter().map(|(_, whole)| whole).collect();
        assert_eq!(paths, [c"/a", c"/a//b", c"/a//b/..", c"/a//b/../c"].map(ToOwned::to_owned));
    }

    #[test]
    fn what_is_missing_is_made_and_entered() {
        let base = std::env::temp_dir().join(format!("ocirt-cwd-{}", std::process::id()));
        let deep = base.join("x/y");
        in_a_child(|| {
            let directory = compile(&deep)?;
            heap_free(|| directory.create())?;
            heap_free(|| directory.enter())?;
            assert_eq!(std::env::current_dir()?, deep);
            heap_free(|| directory.create()).map_err(Into::into)
        });
        std::fs::remove_dir_all(base).expect("was made");
    }

    #[test]
    fn a_file_in_the_way_and_a_magic_link_are_errors() {
        assert_eq!(at("/proc/self/status/x").create().expect_err("file").errno, Errno::ENOTDIR);
        assert_eq!(at("/proc/self/status").create().expect_err("file").errno, Errno::ENOTDIR);
        assert_eq!(at("/proc/self/cwd/x").create().expect_err("magic link").errno, Errno::ELOOP);
    }

    #[test]
    fn a_directory_that_only_root_can_reach_is_kept_over_the_change_of_ids() {
        let base = std::env::temp_dir().join(format!("ocirt-private-{}", std::process::id()));
        std::fs::create_dir(&base).expect("new");
        std::fs::set_permissions(&base, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("own");
        in_a_child(|| {
            let (early, late) = (compile(&base)?, compile(&base)?);
            heap_free(|| early.enter_early())?;
            credentials::set_uid(1000)?;
            heap_free(|| early.enter())?;
            assert_eq!(heap_free(|| late.enter()).expect_err("no longer root").errno, Errno::EACCES);
            Ok(())
        });
        std::fs::remove_dir(base).expect("was made");
    }

    #[test]
    fn a_directory_outside_of_the_root_is_refused() {
        in_a_child(|| {
            let host = std::fs::File::open("/usr")?;
            std::os::unix::fs::chroot("/proc")?;
            let leak = at(&format!("/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&host)));
            let fault = heap_free(|| leak.enter_early()).expect_err("outside");
            assert_eq!((fault.call, fault.errno), ("getcwd", Errno::ENOENT));
            assert_eq!(heap_free(|| leak.create()).expect_err("magic link").errno, Errno::ELOOP);
            Ok(())
        });
    }
}
