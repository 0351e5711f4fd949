//! A session keyring of the container's own, so that it does not have the runtime's (keyrings(7)).

use std::ffi::CString;
use std::fmt;

use anyhow::{Context, Result};

use crate::sys::{Errno, Fault, keyring};

/// UID search: with it, processes of the container's user find keys in the session keyring; runc's choice.
const USER_SEARCH: u32 = 0x0008_0000;

/// The longest description that is read: type, ids, permissions and a name of NAME_MAX.
const DESCRIPTION: usize = 512;

#[derive(PartialEq, Eq, Debug)]
pub struct Keyring(CString);

/// The keyring of container `id`.
pub fn compile(id: &str) -> Result<Keyring> {
    CString::new(format!("_ses.{id}")).map(Keyring).context("id")
}

impl Keyring {
    /// Joins a new session keyring. A kernel without keyrings is as good: there is nothing to hide.
    pub fn apply(&self) -> core::result::Result<(), Fault> {
        let key = match keyring::join_session(&self.0) {
            Err(error) if error.errno == Errno::ENOSYS => return Ok(()),
            Err(error) if error.errno == Errno::EDQUOT => {
                return Err(error.about(c"kernel.keys.maxkeys may be too low, or --no-new-keyring"));
            }
            key => key?,
        };
        let mut description = [0; DESCRIPTION];
        keyring::describe(key, &mut description)?;
        let permissions = permissions(&description).ok_or(Fault::new("keyctl", Errno::EBADMSG, ""))?;
        Ok(keyring::set_permissions(key, permissions | USER_SEARCH)?)
    }
}

/// The fourth field of `type;uid;gid;permissions;name`, in hexadecimal.
fn permissions(description: &[u8]) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(3)?;
    u32::from_str_radix(core::str::from_utf8(field).ok()?, 16).ok()
}

impl fmt::Display for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "new session keyring {}", self.0.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_the_fourth_field() {
        assert_eq!(permissions(b"keyring;0;0;3f130000;_ses.a;b\0\0"), Some(0x3f13_0000));
        assert_eq!(permissions(b"keyring;0"), None);
    }
}
