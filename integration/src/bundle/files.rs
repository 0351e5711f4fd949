//! The files of a bundle: its root filesystem and what lies beside it.

use super::Bundle;
use crate::{host, user};
use std::path::PathBuf;

impl Bundle {
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path below the rootfs, as the host sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// A path below the bundle, made as a directory.
    pub fn host_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).expect("directory in the bundle");
        user::give_in_suite(&path);
        path
    }

    /// A file in the rootfs.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.inside(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        std::fs::write(path, text).expect("file in the rootfs");
        self
    }

    pub fn directory(self, path: &str) -> Self {
        std::fs::create_dir_all(self.inside(path)).expect("directory in the rootfs");
        self
    }

    /// A symlink in the rootfs, in place of what is there.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        let path = self.inside(path);
        let _ = std::fs::remove_dir(&path);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, path).expect("symlink in the rootfs");
        self
    }

    /// The probe as a file of its own, for tests that try to overwrite it.
    pub fn own_probe(self) -> Self {
        let path = self.inside("/probe");
        std::fs::remove_file(&path).expect("probe");
        std::fs::copy(host::probe(), path).expect("probe in the rootfs");
        self
    }
}
