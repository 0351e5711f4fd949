//! runtime.md's operations.

#![forbid(unsafe_code)]

pub mod root;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::log::Log;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rootless {
    True,
    False,
    Auto,
}

pub struct Host<'a> {
    pub root: PathBuf,
    pub cgroup_manager: CgroupManager,
    pub rootless: Rootless,
    pub log: &'a Log,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Id(String);

impl Id {
    pub fn parse(text: &str) -> Result<Self> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if text.is_empty() || text.len() > 1024 || !text.bytes().all(known) || text == "." || text == ".." {
            bail!("invalid id format: '{text}'");
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateOptions {
    pub bundle: PathBuf,
    pub config: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunOptions {
    pub detach: bool,
    pub keep: bool,
    pub no_subreaper: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(pub i32);

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: String,
    pub bundle: String,
    pub rootfs: String,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

pub fn create(_: &Host, _: &Id, _: &CreateOptions) -> Result<()> {
    bail!("placeholder")
}

pub fn run(_: &Host, _: &Id, _: &CreateOptions, _: &RunOptions) -> Result<i32> {
    bail!("placeholder")
}

pub fn start(_: &Host, _: &Id) -> Result<()> {
    bail!("placeholder")
}

pub fn state(_: &Host, _: &Id) -> Result<StateView> {
    bail!("placeholder")
}

pub fn list(_: &Host) -> Result<Vec<StateView>> {
    bail!("placeholder")
}

pub fn ids(_: &Host) -> Result<Vec<Id>> {
    bail!("placeholder")
}

pub fn kill(_: &Host, _: &Id, _: Signal, _all: bool) -> Result<()> {
    bail!("placeholder")
}

pub fn delete(_: &Host, _: &Id, _force: bool) -> Result<()> {
    bail!("placeholder")
}

pub fn ps(_: &Host, _: &Id) -> Result<Vec<i32>> {
    bail!("placeholder")
}

pub fn plan(_: &Host, _: &Id, _: &CreateOptions) -> Result<String> {
    bail!("placeholder")
}
