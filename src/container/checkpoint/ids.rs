//! What CRIU's images say of namespaces, before it acts on them: with `ids-PID.img` and `core-PID.img` it decides in which
//! a process is restored, and for each network namespace of an image it runs `ip` and `iptables-restore` there. A process
//! that an image has in the namespaces of CRIU itself would have the host's configured.
//!
//! Field numbers of images/inventory.proto and images/core.proto.

use std::os::fd::BorrowedFd;

use anyhow::{Result, ensure};
use prost::Message;

use super::entries::{first, names};
use crate::error::field;

/// CRIU's CRTOOLS_IMAGES_V1_1, since CRIU 2.0.
const VERSION: u32 = 2;

/// `inventory_entry`.
#[derive(Clone, PartialEq, Message)]
struct Inventory {
    #[prost(uint32, optional, tag = "1")]
    img_version: Option<u32>,
    #[prost(message, optional, tag = "3")]
    root_ids: Option<Ids>,
    /// Since CRIU 4.1, which makes a command for libnftables of it.
    #[prost(string, optional, tag = "13")]
    run: Option<String>,
}

/// `core_entry`.
#[derive(Clone, PartialEq, Message)]
struct Core {
    #[prost(message, optional, tag = "4")]
    ids: Option<Ids>,
}

/// `task_kobj_ids_entry`: numbers that stand for namespaces, the same for the same.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Ids {
    #[prost(uint32, optional, tag = "5")]
    pid: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    net: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    ipc: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    uts: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    mnt: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    user: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    cgroup: Option<u32>,
}

impl Ids {
    /// To CRIU, one that is absent is 0.
    fn by_kind(&self) -> [(&'static str, u32); 7] {
        let Self { pid, net, ipc, uts, mnt, user, cgroup } = *self;
        let all =
            [("pid", pid), ("net", net), ("ipc", ipc), ("uts", uts), ("mnt", mnt), ("user", user), ("cgroup", cgroup)];
        all.map(|(kind, id)| (kind, id.unwrap_or_default()))
    }
}

/// Fails unless all processes of the images are in the same namespaces, and in none of CRIU's where `is_private` says that
/// the container has another of that kind.
pub fn check(images: BorrowedFd, is_private: impl Fn(&str) -> bool) -> Result<()> {
    let inventory: Inventory = first(images, "inventory.img")?;
    // Older images are without the first number of their type, and would be read otherwise than here.
    ensure!(inventory.img_version == Some(VERSION), "--image-path: inventory.img: not of version {VERSION}");
    let is_plain = |run: &String| run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ensure!(
        inventory.run.as_ref().is_none_or(is_plain),
        "--image-path: inventory.img: {:?} is no id of a run of criu",
        inventory.run.unwrap_or_default()
    );
    let host = inventory.root_ids.unwrap_or_default();
    let mut init: Option<Ids> = None;
    for name in names(images)? {
        let name = name.as_str();
        let ids = match name.split('-').next() {
            Some("ids") => Some(first::<Ids>(images, name)?),
            Some("core") => first::<Core>(images, name)?.ids,
            _ => None,
        };
        let Some(ids) = ids else { continue };
        let first = *init.get_or_insert(ids);
        for (((kind, id), (_, host)), (_, init)) in ids.by_kind().into_iter().zip(host.by_kind()).zip(first.by_kind()) {
            let is_hosts = is_private(kind) && id == host;
            ensure!(!is_hosts, field!("linux.namespaces"; "{kind}: {name} of --image-path has the runtime's"));
            ensure!(
                id == init,
                field!("linux.namespaces"; "{kind}: {name} of --image-path has another one than other processes")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    fn write(directory: &std::path::Path, name: &str, message: &impl Message) {
        let body = message.encode_to_vec();
        let head = if name == "inventory.img" { 4 } else { 8 };
        let bytes = [&[0; 8][..head], &(body.len() as u32).to_le_bytes(), &body].concat();
        fs::write(directory.join(name), bytes).unwrap();
    }

    #[test]
    fn an_image_with_a_process_in_the_hosts_namespaces_is_refused() {
        let directory = std::env::temp_dir().join(format!("ocirt-ids-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let open = fs::File::open(&directory).unwrap();
        let ids = |net, mnt| Ids { net: Some(net), mnt: Some(mnt), ..Ids::default() };
        write(&directory, "inventory.img", &Inventory { img_version: Some(2), root_ids: Some(ids(1, 2)), run: None });
        write(&directory, "ids-1.img", &ids(3, 4));
        write(&directory, "core-1.img", &Core { ids: None });
        let both = |kind: &str| matches!(kind, "net" | "mnt");
        check(open.as_fd(), both).unwrap();
        // Of a kind that no image tells, CRIU takes the process for one in its own.
        let error = format!("{:#}", check(open.as_fd(), |_| true).unwrap_err());
        assert!(error.contains("namespace"), "{error}");
        let words = |ids: Ids, name: &str, is_private: fn(&str) -> bool| {
            write(&directory, name, &Core { ids: Some(ids) });
            let words = check(open.as_fd(), is_private).map_err(|error| format!("{error:#}"));
            fs::remove_file(directory.join(name)).unwrap();
            words
        };
        assert!(words(ids(1, 4), "core-2.img", both).unwrap_err().contains("net"));
        assert!(words(ids(3, 5), "core-2.img", both).unwrap_err().contains("mnt"));
        write(&directory, "ids-1.img", &ids(1, 4));
        let error = format!("{:#}", check(open.as_fd(), both).unwrap_err());
        assert!(error.contains("net"), "{error}");
        check(open.as_fd(), |kind| kind == "mnt").unwrap();
        for (bytes, words) in [(8, "no entry"), (11, "ends within an entry")] {
            fs::write(directory.join("ids-1.img"), vec![0; bytes]).unwrap();
            let error = check(open.as_fd(), |_| true).unwrap_err();
            assert_eq!(format!("{error:#}"), format!("--image-path: ids-1.img: {words}"));
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
