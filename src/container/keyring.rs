//! A session keyring of the container's own, so that it cannot use the keys of whoever started the runtime
//! (session-keyring(7)). As in runc, it is named after the container and `--no-new-keyring` leaves it out.

use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

use crate::error::field;
use crate::sys::keyring::{self, Key};
use crate::sys::namespace::{Kind, Kinds};
use crate::sys::{Errno, Fault, SysError, beneath};

/// The right of the owner to search the keyring, and everybody's: linux/key.h.
const OWNER_SEARCH: u32 = 0x0008_0000;
const OTHER_SEARCH: u32 = 0x0000_0008;

/// A session keyring to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionKeyring {
    name: CString,
    label: Option<CString>,
    search: u32,
}

/// The prepared keyring of container `id`, with the SELinux label of its process. In a user namespace the owner is
/// somebody else, so that everybody must be let in to search.
pub fn compile(id: &str, label: Option<&str>, private: Kinds) -> Result<SessionKeyring> {
    let name = CString::new(format!("_ses.{id}")).context("container id")?;
    let label = label.filter(|label| !label.is_empty()).map(CString::new).transpose();
    let search = if private.contains(Kind::User) { OTHER_SEARCH } else { OWNER_SEARCH };
    Ok(SessionKeyring { name, label: label.context(field!("process.selinuxLabel"))?, search })
}

impl SessionKeyring {
    /// Whether [`Self::apply`] writes to a procfs.
    pub fn needs_proc(&self) -> bool {
        self.label.is_some()
    }

    /// Joins the keyring; `proc` is the root of a procfs, where one is needed. A kernel without keys (`ENOSYS`) is no
    /// error: they protect little. A used-up quota (`EDQUOT`) is one.
    pub fn apply(&self, proc: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
        let label_keys = |label: &[u8]| {
            let proc = proc.ok_or(Fault::new("openat2", Errno::ENOENT, "no procfs for the label of keys"))?;
            let written = beneath::write_own(proc, c"attr/keycreate", label);
            written.map_err(|error| error.about(c"`/proc/self/attr/keycreate`"))
        };
        if let Some(label) = &self.label {
            label_keys(label.to_bytes())?;
        }
        match keyring::join_session(&self.name) {
            Ok(key) => self.let_in(key)?,
            Err(SysError { errno: Errno::ENOSYS, .. }) => {}
            Err(error) => return Err(error.about(&self.name)),
        }
        // Keys made later get the label of who makes them.
        if self.label.is_some() { label_keys(b"") } else { Ok(()) }
    }

    fn let_in(&self, key: Key) -> Result<(), Fault> {
        let mut description = [0; 512];
        let len = keyring::describe(key, &mut description)?;
        let permissions = description.get(..len).and_then(permissions);
        let permissions = permissions.ok_or(SysError::new("keyctl(KEYCTL_DESCRIBE)", Errno::EINVAL))?;
        Ok(keyring::set_permissions(key, permissions | self.search)?)
    }
}

/// The fourth field of `keyring;0;0;3f130000;_ses.web`, a hexadecimal number.
fn permissions(description: &[u8]) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(3)?;
    u32::from_str_radix(core::str::from_utf8(field).ok()?, 16).ok()
}

impl fmt::Display for SessionKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join session keyring {}", self.name.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child, skip};

    #[test]
    fn the_permissions_are_read_from_the_description() {
        assert_eq!(permissions(b"keyring;0;0;3f130000;_ses.a\0"), Some(0x3f13_0000));
        assert_eq!(permissions(b"keyring;0;0"), None);
        assert_eq!(permissions(b"keyring;0;0;x;y"), None);
    }

    #[test]
    fn the_process_has_a_keyring_named_after_the_container() {
        in_a_child(|| {
            let id = format!("test{}", std::process::id());
            let keyring = compile(&id, None, Kinds::NONE)?;
            assert_eq!(keyring.to_string(), format!("join session keyring _ses.{id}"));
            assert!(!keyring.needs_proc());
            heap_free(|| keyring.apply(None))?;
            match std::fs::read_to_string("/proc/keys") {
                Ok(keys) => {
                    let line = keys.lines().find(|line| line.contains(&format!("_ses.{id}")));
                    assert!(line.is_some_and(|line| line.contains(" 3f1b0000 ")), "{keys}");
                }
                Err(_) => skip("keys", "there is no /proc/keys"),
            }
            Ok(())
        });
    }
}
