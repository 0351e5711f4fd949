//! `ocirt spec`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::container::default_spec::{self, CgroupNamespace};
use crate::error::{About, io_error};

/// Write a config.json to start from
///
/// It runs sh on the terminal, in a read-only root filesystem `rootfs` beside it. Edit process.args, or anything else.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Spec {
    /// Path of the bundle directory [default: the current one]
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true, allow_hyphen_values = true)]
    bundle: PathBuf,

    /// Name of the file, relative to the bundle directory [default: config.json]
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "config.json",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    file: PathBuf,

    /// Write a configuration for users other than root
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub fn execute(self) -> Result<()> {
        let cgroup = CgroupNamespace::usual();
        let text = if self.rootless { default_spec::rootless(cgroup) } else { default_spec::rootful(cgroup) };
        write(&self.bundle.join(&self.file), &self.file, &text).context("spec")
    }
}

/// Writes a file that must not exist yet: it may hold a day of work.
fn write(path: &Path, name: &Path, text: &str) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o666).open(path) {
        Ok(mut file) => {
            let written = file.write_all(text.as_bytes());
            written.map_err(|error| io_error("write", &error)).with_context(|| About::file(path))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("File {} exists. Remove it first", name.display())
        }
        Err(error) => Err(io_error("open", &error)).with_context(|| About::file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let directory = std::env::temp_dir().join(format!("ocirt-spec-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let spec = |rootless| Spec { bundle: directory.clone(), file: "config.json".into(), rootless }.execute();
        spec(false).unwrap();
        let first = std::fs::read(directory.join("config.json")).unwrap();
        let error = spec(true).unwrap_err();
        let second = std::fs::read(directory.join("config.json")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(format!("{error:#}"), "spec: File config.json exists. Remove it first");
        assert_eq!(first, second);
        let error = format!("{:#}", spec(false).unwrap_err());
        assert_eq!(error, format!("spec: {:?}: open: no such file or directory", directory.join("config.json")));
    }
}
