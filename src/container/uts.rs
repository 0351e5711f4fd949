//! `hostname` and `domainname`: the names in the container's uts namespace (config.md, "Hostname", "Domainname").

use std::ffi::CString;
use std::fmt;

use anyhow::{Result, bail};

use crate::sys::{Fault, namespace};

/// __NEW_UTS_LEN of the kernel.
const LONGEST: usize = 64;

#[derive(PartialEq, Eq, Debug)]
pub struct Hostname(CString);

#[derive(PartialEq, Eq, Debug)]
pub struct Domainname(CString);

pub fn compile_hostname(name: &str) -> Result<Hostname> {
    compile("hostname", name).map(Hostname)
}

pub fn compile_domainname(name: &str) -> Result<Domainname> {
    compile("domainname", name).map(Domainname)
}

fn compile(field: &str, name: &str) -> Result<CString> {
    if name.len() > LONGEST {
        bail!("{field}: longer than {LONGEST} bytes");
    }
    let Ok(name) = CString::new(name) else { bail!("{field}: {name:?} holds a NUL byte") };
    Ok(name)
}

impl Hostname {
    pub fn apply(&self) -> core::result::Result<(), Fault> {
        Ok(namespace::set_hostname(&self.0)?)
    }
}

impl Domainname {
    pub fn apply(&self) -> core::result::Result<(), Fault> {
        Ok(namespace::set_domainname(&self.0)?)
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set hostname {}", self.0.to_string_lossy())
    }
}

impl fmt::Display for Domainname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set domainname {}", self.0.to_string_lossy())
    }
}
