//! `linux.rootfsPropagation`: first how the container's copy of the host's mounts is cut off from the host, at last
//! what the new root has. runtime-spec config-linux.md, "Rootfs Mount Propagation"; mount_namespaces(7).

use std::fmt;
use std::os::fd::AsFd;

use anyhow::Context as _;

use super::options::{propagation, propagation_word};
use crate::error::field;
use crate::sys::Fault;
use crate::sys::file;
use crate::sys::mount::{Depth, Sharing, set_sharing};
use crate::sys::path::RootFd;

/// Sets the propagation of `/` in the new mount namespace, before anything is mounted there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Propagation {
    sharing: Sharing,
    depth: Depth,
}

/// Sets the propagation of the container's root once it is the root, when the host can no longer be affected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootPropagation {
    sharing: Sharing,
    depth: Depth,
}

impl Propagation {
    /// What is set first, and what at last, for `linux.rootfsPropagation`; its absence means `rslave` and `private`.
    ///
    /// All words but `shared` cut off the whole tree: the container's mounts must not appear on the host because a
    /// submount of the host is shared. An unbindable tree could not be entered, so that word waits for the end.
    pub fn compile(word: Option<&str>) -> anyhow::Result<(Self, Option<RootPropagation>)> {
        let Some(word) = word.filter(|word| !word.is_empty()) else {
            return Ok((Self { sharing: Sharing::Slave, depth: Depth::Tree }, None));
        };
        let known = propagation(word).with_context(|| format!("{word}: no such propagation"));
        let (sharing, depth) = known.context(field!("linux.rootfsPropagation"))?;
        let first = match sharing {
            Sharing::Shared => Self { sharing, depth },
            Sharing::Slave => Self { sharing, depth: Depth::Tree },
            Sharing::Private | Sharing::Unbindable => Self { sharing: Sharing::Private, depth: Depth::Tree },
        };
        // EnterRootfs makes the root private already.
        let last = (sharing != Sharing::Private).then_some(RootPropagation { sharing, depth });
        Ok((first, last))
    }

    pub fn apply(&self) -> Result<(), Fault> {
        let root = file::open_directory(c"/")?;
        Ok(set_sharing(root.as_fd(), self.sharing, self.depth)?)
    }

    /// Whether mounts of the container's namespace can still be peers of the host's afterwards.
    pub fn leaves_peers(&self) -> bool {
        self.sharing == Sharing::Shared
    }
}

impl RootPropagation {
    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        Ok(set_sharing(root.as_fd(), self.sharing, self.depth)?)
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "propagation of the host's mounts {}", propagation_word((self.sharing, self.depth)))
    }
}

impl fmt::Display for RootPropagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "propagation of the root {}", propagation_word((self.sharing, self.depth)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: Option<&str>) -> String {
        let (first, last) = Propagation::compile(word).unwrap();
        format!("{first}; {}", last.map(|last| last.to_string()).unwrap_or_default())
    }

    #[test]
    fn the_host_is_cut_off_unless_shared_is_asked_for() {
        assert_eq!(text(None), "propagation of the host's mounts rslave; ");
        assert_eq!(text(Some("private")), "propagation of the host's mounts rprivate; ");
        assert_eq!(text(Some("slave")), "propagation of the host's mounts rslave; propagation of the root slave");
        assert_eq!(
            text(Some("unbindable")),
            "propagation of the host's mounts rprivate; propagation of the root unbindable"
        );
        assert_eq!(text(Some("rshared")), "propagation of the host's mounts rshared; propagation of the root rshared");
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_field() {
        let error = Propagation::compile(Some("public")).unwrap_err();
        assert_eq!(format!("{error:#}"), "linux.rootfsPropagation: public: no such propagation");
    }
}
