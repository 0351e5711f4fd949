//! The flags of `checkpoint` and `restore`, understood: runc's names and values.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// CLONE_NEWNET of sched.h.
const CLONE_NEWNET: u32 = 0x4000_0000;

/// What `checkpoint` and `restore` have in common.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CriuFlags {
    pub image_path: Option<PathBuf>,
    pub work_path: Option<PathBuf>,
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub lazy_pages: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub cgroups: CgroupsMode,
    /// Namespaces of which only the fact is saved: `CLONE_NEW*`.
    pub empty_namespaces: u32,
    pub network_lock: Option<NetworkLock>,
}

impl CriuFlags {
    /// The network namespace is made, and no more: what is in it is the hooks' to make.
    pub fn leave_network_out(&mut self) {
        self.empty_namespaces |= CLONE_NEWNET;
    }
}

/// `--manage-cgroups-mode`: how CRIU restores cgroups and their values. The numbers are of its rpc.proto.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CgroupsMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    #[default]
    Default = 6,
}

/// `--network-lock`: how CRIU keeps packets away meanwhile. The numbers are of its rpc.proto.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkLock {
    Iptables = 1,
    Nftables = 2,
    Skip = 3,
}

impl CgroupsMode {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" => Ok(Self::Default),
            "soft" => Ok(Self::Soft),
            "full" => Ok(Self::Full),
            "strict" => Ok(Self::Strict),
            "ignore" => Ok(Self::Ignore),
            _ => bail!("--manage-cgroups-mode: invalid value {text:?}, must be soft, full, strict or ignore"),
        }
    }
}

impl NetworkLock {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "iptables" => Ok(Self::Iptables),
            "nftables" => Ok(Self::Nftables),
            "skip" => Ok(Self::Skip),
            _ => bail!("--network-lock: invalid value {text:?}, must be iptables, nftables or skip"),
        }
    }
}

/// `--empty-ns`, given any number of times. CRIU knows it of one kind.
pub fn empty_namespaces(names: &[String]) -> Result<u32> {
    match names.iter().find(|name| *name != "network") {
        Some(name) => bail!("--empty-ns: namespace {name} is not supported, only network is"),
        None => Ok(if names.is_empty() { 0 } else { CLONE_NEWNET }),
    }
}

/// `--page-server ADDRESS:PORT`; an IPv6 address may be in brackets.
pub fn page_server(text: &str) -> Result<(String, u16)> {
    let Some((address, port)) = text.rsplit_once(':') else {
        bail!("--page-server: {text:?} is not ADDRESS:PORT");
    };
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !address.is_empty() => Ok((address.to_owned(), port)),
        _ => bail!("--page-server: {text:?} is not ADDRESS:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_runcs() {
        assert_eq!(CgroupsMode::parse("strict").unwrap() as i32, 5);
        assert_eq!(CgroupsMode::parse("").unwrap() as i32, 6);
        assert!(CgroupsMode::parse("none").is_err_and(|error| error.to_string().contains("invalid value \"none\"")));
        assert_eq!(NetworkLock::parse("skip").unwrap() as i32, 3);
        assert!(NetworkLock::parse("").is_err_and(|error| error.to_string().contains("invalid value \"\"")));
        assert_eq!(empty_namespaces(&["network".to_owned(), "network".to_owned()]).unwrap(), CLONE_NEWNET);
        assert_eq!(empty_namespaces(&[]).unwrap(), 0);
        let error = empty_namespaces(&["pid".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("--empty-ns: namespace pid"), "{error}");
    }

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(page_server("[::1]:9").unwrap(), ("::1".to_owned(), 9));
        for bad in ["", "host", "host:", ":9", "host:0", "host:70000", "host:x"] {
            let error = page_server(bad).unwrap_err().to_string();
            assert_eq!(error, format!("--page-server: {bad:?} is not ADDRESS:PORT"));
        }
    }
}
