//! Mounts that no entry of config.json stands for: those that the runtime makes besides, what processes of the container have
//! mounted themselves, and what nothing explains.

use std::path::Path;

use caps::Capability;

use super::OWN_KINDS;
use super::life::Life;
use super::mounts::{Look, has_dots};
use super::table::{Host, Line};

impl Look<'_> {
    /// /dev/console is one of the container's own terminals.
    pub(super) fn terminal(&mut self) {
        let own: Vec<String> = (0..self.lines.len())
            .filter(|index| self.is_claimed(*index))
            .filter_map(|index| self.line(Some(index)))
            .filter(|line| line.kind == "devpts")
            .map(|line| line.shown.device.clone())
            .collect();
        let is_console = |line: &Line| line.at == Path::new("/dev/console") && own.contains(&line.shown.device);
        let index = self.lines.iter().position(is_console).filter(|_| self.wanted.terminal);
        index.into_iter().for_each(|index| self.claim(index));
    }

    /// Nodes of the host that stand in for those that cannot be made in a user namespace.
    pub(super) fn device_nodes(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.line(Some(index)).filter(|_| !self.is_claimed(index)) else { continue };
            let is_node = self.wanted.devices.contains(&line.at);
            if is_node && self.host.shown(&line.at).is_ok_and(|shown| shown == line.shown) {
                self.claim(index);
            }
        }
    }

    /// Mounts that were below a path when that was mounted once more, to be read-only: they lie twice.
    pub(super) fn copies(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.line(Some(index)) else { continue };
            let is_same = |other: &Line| other.at == line.at && other.shown == line.shown && is_tighter(line, other);
            let has_twin = (0..self.lines.len())
                .any(|other| other != index && self.is_claimed(other) && self.line(Some(other)).is_some_and(is_same));
            if has_twin {
                self.claim(index);
            }
        }
    }

    /// A mount that nothing in config.json explains. One with CAP_SYS_ADMIN makes mounts by itself, but of nothing that
    /// is the host's.
    pub(super) fn strangers(&mut self) {
        let mounts_itself = self.wanted.can_have(Capability::CAP_SYS_ADMIN);
        for index in 0..self.lines.len() {
            let Some(line) = self.line(Some(index)).filter(|_| !self.is_claimed(index)).cloned() else { continue };
            if !(mounts_itself && self.is_the_containers(&line)) {
                self.differ("mounts", format!("no mount on {}", line.at.display()), line.to_string());
            }
        }
    }

    fn is_the_containers(&self, line: &Line) -> bool {
        let is_inside = |index: usize| {
            self.is_claimed(index) && self.line(Some(index)).is_some_and(|own| line.shown.is_within(&own.shown))
        };
        let is_made = self.life == Life::Running && is_of_processes(line) && !self.host.has_device(&line.shown.device);
        is_made
            || is_new(&self.host, line)
            || self.is_own_cgroup(line)
            || (0..self.lines.len()).any(is_inside) && !has_dots(&line.shown.root)
    }
}

/// What processes that run mount for their own containers, or serve themselves. Of an image, it could show the host's files.
fn is_of_processes(line: &Line) -> bool {
    matches!(line.kind.as_str(), "overlay" | "fuse") || line.kind.starts_with("fuse.")
}

/// Whether a filesystem was made for the container. By its options, one of another kind can show anything of the host, on a
/// device of its own.
fn is_new(host: &Host, line: &Line) -> bool {
    OWN_KINDS.contains(&line.kind.as_str()) && !host.has_device(&line.shown.device)
}

/// Whether `line` has every restriction that `other` has.
fn is_tighter(line: &Line, other: &Line) -> bool {
    ["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| line.has(flag) || !other.has(flag))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::table::Shown;
    use super::*;

    #[test]
    fn a_new_filesystem_is_the_containers_only_if_its_options_name_nothing_of_the_host() {
        let line = |kind: &str| {
            let shown = Shown { device: "0:999999".to_owned(), root: PathBuf::from("/") };
            let (at, kind, flags) = (PathBuf::from("/x"), kind.to_owned(), Vec::new());
            Line { id: 1, parent: 0, shown, at, flags, shared: None, master: None, kind }
        };
        let host = Host::read().unwrap();
        for kind in OWN_KINDS {
            assert!(is_new(&host, &line(kind)), "{kind}");
        }
        for kind in ["overlay", "ext4", "fuse.sshfs", "nfs4", "9p", "devtmpfs", "cgroup", "cgroup2", ""] {
            assert!(!is_new(&host, &line(kind)), "{kind}");
        }
    }
}
