//! Where containers' states live when `--root` does not say.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sys;

/// The state directory for a caller who named none: `/run/ocirt`, or `$XDG_RUNTIME_DIR/ocirt` for one who is not the
/// host's root.
///
/// The second is made at once, mode 0700 and sticky: the XDG base directory specification has unused files removed
/// from there, but for sticky ones.
pub fn default_root() -> Result<PathBuf> {
    let Some(directory) = runtime_directory(std::env::var_os("XDG_RUNTIME_DIR")) else {
        return Ok(PathBuf::from("/run/ocirt"));
    };
    let root = directory.join("ocirt");
    make_sticky(&root).with_context(|| format!("--root: {}", root.display()))?;
    Ok(root)
}

/// The caller's file mode creation mask. From here on the process's own is 0, and its children's is, up to what gets another
/// one: the container's program that of process.user, a hook the caller's. One mask for all beats one for each thing that
/// is made: no place can forget it, and a device costs two system calls less. What is made before, such as the log file, is
/// the caller's own, and under the caller's mask.
pub fn take_umask() -> u32 {
    sys::credentials::set_umask(0)
}

fn runtime_directory(variable: Option<OsString>) -> Option<PathBuf> {
    let directory = variable.filter(|path| !path.is_empty())?;
    is_unprivileged().then(|| PathBuf::from(directory))
}

/// True for a user id other than 0, and for a root of a user namespace who does not call himself root: engines run the
/// runtime as such, and the environment is the user's there.
fn is_unprivileged() -> bool {
    if sys::ids::effective_uid() != 0 {
        return true;
    }
    sys::ids::in_a_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root")
}

fn make_sticky(root: &Path) -> std::result::Result<(), sys::SysError> {
    let words = |call| move |error: std::io::Error| sys::SysError::new(call, errno(&error));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(words("mkdir"))?;
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o1700)).map_err(words("chmod"))
}

fn errno(error: &std::io::Error) -> sys::Errno {
    sys::Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_runtime_directory_is_none() {
        assert_eq!(runtime_directory(Some(OsString::new())), None);
        assert_eq!(runtime_directory(None), None);
    }

    #[test]
    fn a_runtime_directory_is_private_and_sticky() {
        let root = std::env::temp_dir().join(format!("ocirt-root-{}", std::process::id()));
        make_sticky(&root.join("deep/ocirt")).unwrap();
        let mode = std::fs::metadata(root.join("deep/ocirt")).unwrap().permissions().mode();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(mode & 0o7777, 0o1700);
    }
}
