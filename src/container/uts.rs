//! `hostname` and `domainname` (config.md, "Hostname"), which belong to a uts namespace of the container's.

use std::ffi::CString;
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::{Fault, SysError};

/// The most bytes of either name: `__NEW_UTS_LEN` of linux/utsname.h.
const MOST: usize = 64;

/// One of the names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    Host(CString),
    Domain(CString),
}

/// The prepared host name; none, or an empty one, leaves it alone.
pub fn compile_hostname(name: Option<&str>, private: Kinds) -> Result<Option<Name>> {
    Ok(checked("hostname", name, private)?.map(Name::Host))
}

/// The prepared NIS domain name; none, or an empty one, leaves it alone.
pub fn compile_domainname(name: Option<&str>, private: Kinds) -> Result<Option<Name>> {
    Ok(checked("domainname", name, private)?.map(Name::Domain))
}

fn checked(field: &str, name: Option<&str>, private: Kinds) -> Result<Option<CString>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if !private.contains(Kind::Uts) {
        bail!(field!("{field}"; "cannot be set without a private uts namespace"));
    }
    if name.len() > MOST {
        bail!(field!("{field}"; "{name:?} is longer than {MOST} bytes"));
    }
    Ok(Some(CString::new(name).with_context(|| field!("{field}"; "contains a NUL byte: {name:?}"))?))
}

impl Name {
    pub fn apply(&self) -> Result<(), Fault> {
        let (set, name): (Result<(), SysError>, _) = match self {
            Self::Host(name) => (namespace::set_hostname(name), name),
            Self::Domain(name) => (namespace::set_domainname(name), name),
        };
        set.map_err(|error| error.about(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "set hostname {}", name.to_string_lossy()),
            Self::Domain(name) => write!(f, "set domainname {}", name.to_string_lossy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    const UTS: Kinds = Kinds::NONE.with(Kind::Uts);

    #[test]
    fn a_name_without_a_private_uts_namespace_is_an_error() {
        let error = compile_hostname(Some("web"), Kinds::NONE).expect_err("host's").to_string();
        assert_eq!(error, "hostname: cannot be set without a private uts namespace");
        assert_eq!(compile_hostname(Some(""), Kinds::NONE).expect("nothing to do"), None);
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error() {
        let error = compile_domainname(Some(&"x".repeat(65)), UTS).unwrap_err().to_string();
        assert!(error.starts_with("domainname: ") && error.ends_with("is longer than 64 bytes"), "{error}");
        assert!(compile_domainname(Some(&"x".repeat(64)), UTS).is_ok());
    }

    #[test]
    fn the_kernel_has_both_names() {
        in_a_child(|| {
            namespace::unshare(UTS)?;
            for name in [compile_hostname(Some("web"), UTS)?, compile_domainname(Some("example"), UTS)?] {
                let name = name.ok_or("none")?;
                heap_free(|| name.apply())?;
            }
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname")?, "web\n");
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/domainname")?, "example\n");
            Ok(())
        });
    }
}
