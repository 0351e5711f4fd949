//! The runtime's command lines, and what it says of its errors.

use std::cell::OnceCell;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use containerd_shim_ocirt::api::known::Any;
use containerd_shim_ocirt::call::Refused;
use containerd_shim_ocirt::call::config::Config;
use containerd_shim_ocirt::call::log;
use containerd_shim_ocirt::call::options::{self, Given, Settings};
use serde::{Deserialize, Serialize};

use crate::file;

/// In the bundle: what `delete` needs to know of a shim that has gone.
const NOTE: &str = "ocirt-shim.json";

#[derive(Clone, Debug)]
pub struct Runtime {
    pub settings: Settings,
    bundle: PathBuf,
    program: OnceCell<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    binary: Option<PathBuf>,
    root: PathBuf,
    systemd: bool,
}

/// What options mean for a container, their file read.
pub fn settle(any: Option<&Any>, namespace: &str, config: &Config) -> Result<Settings, Refused> {
    let wanted = match options::read(any)? {
        Given::Here(wanted) => wanted,
        Given::In(path) => {
            let text = fs::read_to_string(&path);
            options::parse(&text.map_err(|error| Refused(format!("options {}: {error}", path.display())))?)?
        }
    };
    Ok(wanted.settle(namespace, config))
}

impl Runtime {
    pub fn new(settings: Settings) -> Self {
        Self::of_bundle(settings, Path::new(""))
    }

    pub fn of_bundle(settings: Settings, bundle: &Path) -> Self {
        Self { settings, bundle: bundle.to_owned(), program: OnceCell::new() }
    }

    /// The runtime as the shim noted it, or with the defaults.
    pub fn load(bundle: &Path, namespace: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut settings = settle(None, namespace, &Config::default())?;
        match fs::read(bundle.join(NOTE)) {
            Ok(text) => {
                let note: Note = serde_json::from_slice(&text)?;
                settings.binary = note.binary;
                settings.root = note.root;
                settings.systemd_cgroup = note.systemd;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self::of_bundle(settings, bundle))
    }

    pub fn save(&self) -> std::io::Result<()> {
        let Settings { binary, root, systemd_cgroup, .. } = &self.settings;
        let note = Note { binary: binary.clone(), root: root.clone(), systemd: *systemd_cgroup };
        file::replace(&self.bundle, NOTE, &serde_json::to_vec(&note)?)
    }

    /// The program: as given, else ocirt beside the shim, else of PATH. It is looked for once.
    pub fn binary(&self) -> &Path {
        self.program.get_or_init(|| {
            if let Some(binary) = &self.settings.binary {
                return binary.clone();
            }
            let beside = std::env::current_exe().map(|exe| exe.with_file_name("ocirt")).unwrap_or_default();
            if beside.is_file() { beside } else { "ocirt".into() }
        })
    }

    /// True if the runtime knows a container with this id.
    pub fn has(&self, id: &str) -> bool {
        self.settings.root.join(id).exists()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.arg("--root").arg(&self.settings.root);
        command.arg("--log").arg(self.log()).args(["--log-format", "json"]);
        if self.settings.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(arguments).current_dir(&self.bundle);
        command
    }

    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    pub fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    pub fn log_length(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |metadata| metadata.len())
    }

    /// The last error that the runtime has logged behind `from`.
    pub fn last_error(&self, from: u64) -> Option<String> {
        let mut file = fs::File::open(self.log()).ok()?;
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut text = String::new();
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        log::last_error(&text)
    }
}
