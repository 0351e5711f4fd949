//! What CRIU passes to mount(2) as an image has it: flags and options. With a flag that makes another call of it (a bind mount, a
//! move, a remount), the source would be a path of CRIU's root directory; an option may name something of the host.
//!
//! The source of a mount is any text: by none of the flags here, and for no file system that CRIU may make, it is a path.

use anyhow::{Result, ensure};

use super::mount_entry::MountEntry;

/// MS_RDONLY, NOSUID, NODEV, NOEXEC, SYNCHRONOUS, MANDLOCK, DIRSYNC, NOSYMFOLLOW, NOATIME, NODIRATIME, SILENT, RELATIME,
/// STRICTATIME and LAZYTIME of linux/mount.h: what is restricted, and how times are kept.
const OF_A_MOUNT: u32 = 1
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 11
    | 1 << 15
    | 1 << 21
    | 1 << 24
    | 1 << 25;

/// MS_UNBINDABLE, PRIVATE, SLAVE and SHARED. CRIU takes them out of the flags of a mount before it uses these.
const PROPAGATION: u32 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;

/// The number of a device has its major number above these bits (CRIU's `MKKDEV`).
const MINOR_BITS: u32 = 20;

/// Options of every file system: those of a superblock (mount(8)), and labels of SELinux and Smack.
const OF_ALL: [&str; 19] = [
    "ro",
    "rw",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "lazytime",
    "nolazytime",
    "iversion",
    "seclabel",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
    "smackfsdef",
    "smackfsfloor",
    "smackfshat",
    "smackfsroot",
];

/// By the kernel's name for the file system. `pidns` of a procfs is not among them: it is a path of a pid namespace.
const OF_KINDS: [(&str, &[&str]); 3] = [
    ("proc", &["gid", "hidepid", "subset"]),
    (
        "tmpfs",
        &[
            "size",
            "nr_blocks",
            "nr_inodes",
            "mode",
            "uid",
            "gid",
            "huge",
            "mpol",
            "inode32",
            "inode64",
            "noswap",
            "quota",
            "usrquota",
            "grpquota",
            "usrquota_block_hardlimit",
            "usrquota_inode_hardlimit",
            "grpquota_block_hardlimit",
            "grpquota_inode_hardlimit",
            "casefold",
            "strict_encoding",
        ],
    ),
    ("devpts", &["gid", "uid", "mode", "ptmxmode", "newinstance", "max"]),
];

/// Of any mount of an image.
pub fn check_flags(mount: &MountEntry) -> Result<()> {
    ensure!(mount.flags & !(OF_A_MOUNT | PROPAGATION) == 0, "flags {:#x}, which no mount has", mount.flags);
    ensure!(
        mount.superblock_flags & !OF_A_MOUNT == 0,
        "superblock flags {:#x}, which none has",
        mount.superblock_flags
    );
    // As CRIU before 2.0 named external mounts: by their roots.
    ensure!(!mount.is_old_external, "an external mount without a name");
    Ok(())
}

/// Of a file system `kind`, by the kernel's name, that CRIU makes.
pub fn check_new(mount: &MountEntry, kind: &str) -> Result<()> {
    ensure!(mount.device >> MINOR_BITS == 0, "a {kind} on device {:#x}", mount.device);
    let of_kind = OF_KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, options)| options);
    let mut before = "";
    for option in options(&mount.options) {
        let name = option.split('=').next().unwrap_or_default();
        // The list of nodes of `mpol` has commas of its own.
        let goes_on =
            before == "mpol" && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if !goes_on {
            ensure!(
                OF_ALL.contains(&name) || of_kind.contains(&name),
                "option {option:?} of a {kind} cannot be restored"
            );
            before = name;
        }
    }
    Ok(())
}

/// Between commas that are not in quotes: a label may have such.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = text.split(move |letter: char| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    });
    parts.filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_of_a_mount_is_let_pass() {
        for (kind, text) in [
            ("proc", ""),
            ("proc", "hidepid=invisible,subset=pid"),
            ("sysfs", "seclabel"),
            ("devpts", "gid=5,mode=620,ptmxmode=666,newinstance"),
            ("tmpfs", "size=65536k,mode=755,inode64"),
            ("tmpfs", "mand,uid=5,gid=7,huge=advise,mpol=bind:0,2-3,7,nr_inodes=1024"),
            ("tmpfs", "context=\"system_u:object_r:container_file_t:s0:c82,c137\",inode64"),
        ] {
            check_new(&MountEntry { options: text.to_owned(), device: 101, ..MountEntry::default() }, kind).unwrap();
        }
        let flags = [1, 1025, 2_097_152 | 15, 2_228_224, 3_145_728, 16_779_266];
        for (flags, superblock_flags) in flags.into_iter().zip([0, 1, 4, 132, 0, 0]) {
            check_flags(&MountEntry { flags, superblock_flags, ..MountEntry::default() }).unwrap();
        }
    }

    #[test]
    fn another_call_and_what_names_the_host_are_refused() {
        // MS_REMOUNT, BIND, MOVE, REC, and bits of the kernel's own.
        for bit in [5, 12, 13, 14, 16, 22, 23, 26, 29, 30, 31] {
            check_flags(&MountEntry { flags: 1 << bit, ..MountEntry::default() }).expect_err("flags");
            check_flags(&MountEntry { superblock_flags: 1 << bit, ..MountEntry::default() })
                .expect_err("superblock flags");
        }
        for bit in 17..=20 {
            check_flags(&MountEntry { superblock_flags: 1 << bit, ..MountEntry::default() }).expect_err("propagation");
        }
        for (kind, text) in [
            ("proc", "pidns=/proc/1/ns/pid"),
            ("proc", "hidepid=2,pidns=/proc/1/ns/pid"),
            ("proc", "mode=755"),
            ("sysfs", "source=/x"),
            ("tmpfs", "1"),
            ("tmpfs", "mpol=bind:0,1,x"),
            ("mqueue", "release_agent=/x"),
            ("tmpfs", "context=\"a,b\",lowerdir=/"),
        ] {
            check_new(&MountEntry { options: text.to_owned(), ..MountEntry::default() }, kind).expect_err(text);
        }
        check_new(&MountEntry { device: 254 << 20, ..MountEntry::default() }, "tmpfs").expect_err("a device");
    }
}
