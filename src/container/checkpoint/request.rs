//! The requests that CRIU gets, as runc makes them: from the flags, the container's state and configuration.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::flags::{CgroupsMode, CriuFlags};
use super::image::Point;
use super::outside::HostResources;
use super::rpc::{CriuOpts, CriuReq, CriuReqType, ExternalMount, InheritFd, PageServer};

use crate::error::field;

pub const DUMP_LOG: &CStr = c"dump.log";
pub const RESTORE_LOG: &CStr = c"restore.log";

/// The most that CRIU tells: the log is where its errors are explained.
const LOG_LEVEL: i32 = 4;

/// The first descriptor of CRIU's that is not spoken for: its standard ones, and the socket.
pub const FIRST_FREE: i32 = 4;

/// Configuration of CRIU for all containers; what is in it comes before what the request says.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/ocirt.conf", "/etc/criu/runc.conf"];

/// What `checkpoint` alone is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DumpFlags {
    pub parent_path: Option<PathBuf>,
    pub leave_running: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub page_server: Option<(String, u16)>,
    pub pre_dump: bool,
}

/// What `restore` alone is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestoreFlags {
    pub tcp_close: bool,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// The directories of a request, by our descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Directories {
    pub images: i32,
    pub work: Option<i32>,
}

/// The container that is to be saved.
pub struct Dumped<'a> {
    pub pid: i32,
    pub rootfs: &'a Path,
    pub outside: &'a HostResources,
    pub annotations: &'a HashMap<String, String>,
    pub freezer: Option<&'a str>,
    /// None for a pre-dump: memory only.
    pub points: &'a [Point],
    pub descriptors: &'a [String],
}

/// What a restored container is made of.
///
/// All paths are those of CRIU's own root directory.
pub struct Restored<'a> {
    /// The rootfs, a mount point.
    pub root: &'a Path,
    pub outside: &'a HostResources,
    pub configuration: Option<&'a Path>,
    /// Names of external mounts, and their paths.
    pub sources: &'a BTreeMap<String, PathBuf>,
    pub descriptors: &'a [String],
}

/// The request that saves a container.
pub fn dump(flags: &CriuFlags, own: &DumpFlags, directories: Directories, dumped: &Dumped) -> Result<CriuReq> {
    let mut options = common(flags, directories);
    options.config_file = configuration(dumped.annotations).as_deref().map(text).transpose()?;
    options.log_file = Some(DUMP_LOG.to_str()?.to_owned());
    options.root = Some(text(dumped.rootfs)?);
    options.pid = Some(dumped.pid);
    options.leave_running = Some(own.leave_running);
    options.tcp_skip_in_flight = Some(own.tcp_skip_in_flight);
    options.link_remap = Some(own.link_remap);
    options.freeze_cgroup = dumped.freezer.map(str::to_owned);
    options.page_server =
        own.page_server.clone().map(|(address, port)| PageServer { address: Some(address), port: Some(port.into()) });
    if let Some(parent) = &own.parent_path {
        options.parent_img = Some(text(parent)?);
    }
    if own.parent_path.is_some() || own.pre_dump {
        options.track_mem = Some(true);
    }
    for (kind, key) in INHERITED {
        if let Some(path) = dumped.outside.namespaces.get(kind) {
            let inode = fs::metadata(path).with_context(|| format!("{kind} namespace {}", path.display()))?.ino();
            options.external.push(format!("{kind}[{inode}]:{key}"));
        }
    }
    options.external.extend(dumped.descriptors.iter().filter(|text| text.starts_with("file[")).cloned());
    let external = dumped.points.iter().filter_map(|point| Some((point, point.external.as_ref()?)));
    options.ext_mnt = external.map(|(point, external)| mount(&point.at, &external.name)).collect();
    let kind = if own.pre_dump { CriuReqType::SinglePreDump } else { CriuReqType::Dump };
    Ok(CriuReq { options: Some(options), ..CriuReq::new(kind) })
}

/// The request that restores a container.
pub fn restore(
    flags: &CriuFlags,
    own: &RestoreFlags,
    directories: Directories,
    restored: &Restored,
) -> Result<CriuReq> {
    let mut options = common(flags, directories);
    options.config_file = restored.configuration.map(text).transpose()?;
    options.log_file = Some(RESTORE_LOG.to_str()?.to_owned());
    options.root = Some(text(restored.root)?);
    options.evasive_devices = Some(true);
    options.rst_sibling = Some(true);
    options.tcp_close = Some(own.tcp_close);
    options.lsm_profile = own.lsm_profile.clone();
    options.lsm_mount_context = own.lsm_mount_context.clone();
    // Its cgroups are made, and limited by config.json, when CRIU starts in them. With what cgroup.img says CRIU would
    // write to any file.
    options.manage_cgroups_mode = Some(CgroupsMode::Ignore as i32);
    for (name, source) in restored.sources {
        options.ext_mnt.push(mount(name, &text(source)?));
    }
    // What CRIU itself prints goes nowhere: its descriptors 1 and 2 are not the container's.
    let standard = [0, FIRST_FREE, FIRST_FREE + 1];
    for (key, fd) in restored.descriptors.iter().zip(standard) {
        if key.starts_with("pipe:") || key.starts_with("file[") {
            options.inherit_fd.push(InheritFd { key: key.clone(), fd });
        }
    }
    for (index, (_, key, _)) in inherited(restored.outside).enumerate() {
        options.inherit_fd.push(InheritFd { key: key.to_owned(), fd: FIRST_FREE + 2 + index as i32 });
    }
    Ok(CriuReq { options: Some(options), ..CriuReq::new(CriuReqType::Restore) })
}

/// Namespaces that CRIU leaves alone at a dump, and is given as a descriptor at a restore; with runc's keys.
const INHERITED: [(&str, &str); 1] = [("net", "extRootNetNS")];

/// Kind, key and path of the namespaces of which CRIU gets descriptors, behind the output of the container, which is at
/// [`FIRST_FREE`].
pub fn inherited(outside: &HostResources) -> impl Iterator<Item = (&'static str, &'static str, &Path)> {
    let path = |kind| outside.namespaces.get(kind).map(PathBuf::as_path);
    INHERITED.into_iter().filter_map(move |(kind, key)| Some((kind, key, path(kind)?)))
}

/// Refuses what CRIU has no way to restore, and what it cannot restore safely: in a pid namespace that others are in, they
/// would see CRIU's own programs, whose root is not the container's.
pub fn check(outside: &HostResources) -> Result<()> {
    ensure!(
        !outside.new_user_namespace,
        field!("linux.namespaces"; "a container with a user namespace cannot be restored: from inside it, CRIU may not read its images")
    );
    // Of the others CRIU makes a new one, also where it is told to join one (`join_ns`).
    let is_known = |kind: &str| INHERITED.iter().any(|(known, _)| *known == kind);
    match outside.namespaces.keys().find(|kind| !is_known(kind)) {
        Some(kind) => bail!(field!("linux.namespaces"; "a {kind} namespace that is joined by path cannot be restored")),
        None => Ok(()),
    }
}

fn common(flags: &CriuFlags, directories: Directories) -> CriuOpts {
    CriuOpts {
        images_dir_fd: directories.images,
        work_dir_fd: directories.work,
        log_level: Some(LOG_LEVEL),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(flags.cgroups as i32),
        notify_scripts: Some(true),
        orphan_pts_master: Some(true),
        shell_job: Some(flags.shell_job),
        tcp_established: Some(flags.tcp_established),
        ext_unix_sk: Some(flags.ext_unix_sk),
        file_locks: Some(flags.file_locks),
        auto_dedup: Some(flags.auto_dedup),
        lazy_pages: Some(flags.lazy_pages),
        empty_ns: Some(flags.empty_namespaces),
        network_lock: flags.network_lock.map(|lock| lock as i32),
        ..CriuOpts::default()
    }
}

/// CRIU's configuration file on the host.
pub fn configuration(annotations: &HashMap<String, String>) -> Option<PathBuf> {
    config_file(annotations, |path| Path::new(path).exists()).map(PathBuf::from)
}

/// The annotation `org.criu.config` names it; empty, there is none.
fn config_file(annotations: &HashMap<String, String>, exists: impl Fn(&str) -> bool) -> Option<String> {
    match annotations.get("org.criu.config") {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(path.clone()),
        None => CONFIG_FILES.into_iter().find(|path| exists(path)).map(str::to_owned),
    }
}

fn mount(key: &str, val: &str) -> ExternalMount {
    ExternalMount { key: key.to_owned(), val: val.to_owned() }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::flags::NetworkLock;
    use super::super::image::{External, Origin};
    use super::*;

    const DIRECTORIES: Directories = Directories { images: 5, work: None };

    fn outside() -> HostResources {
        let namespaces = BTreeMap::from([("net".to_owned(), PathBuf::from("/proc/self/ns/net"))]);
        HostResources { namespaces, ..HostResources::default() }
    }

    #[test]
    fn a_dump_names_external_things_by_numbers() {
        let external = External { name: "7".to_owned(), origin: Origin::Mount("/data".to_owned()) };
        let points = [
            Point { at: "/proc".to_owned(), directory: true, flags: Vec::new(), external: None },
            Point { at: "/mnt/data".to_owned(), directory: true, flags: Vec::new(), external: Some(external) },
        ];
        let dumped = Dumped {
            pid: 42,
            rootfs: Path::new("/b/rootfs"),
            outside: &outside(),
            annotations: &HashMap::new(),
            freezer: None,
            points: &points,
            descriptors: &["file[1b:3]".to_owned(), "pipe:[9]".to_owned(), "/x".to_owned()],
        };
        let request = dump(&CriuFlags::default(), &DumpFlags::default(), DIRECTORIES, &dumped).unwrap();
        let options = request.options.unwrap();
        assert_eq!(options.ext_mnt, [mount("/mnt/data", "7")]);
        let inode = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(options.external, [format!("net[{inode}]:extRootNetNS"), "file[1b:3]".to_owned()]);
        assert_eq!((request.kind, options.track_mem), (CriuReqType::Dump as i32, None));
        let pre_dump = DumpFlags { pre_dump: true, ..DumpFlags::default() };
        let request = dump(&CriuFlags::default(), &pre_dump, DIRECTORIES, &dumped).unwrap();
        assert_eq!(request.kind, CriuReqType::SinglePreDump as i32);
    }

    #[test]
    fn a_restore_inherits_pipes_and_namespaces() {
        let sources = BTreeMap::from([("7".to_owned(), PathBuf::from("/host/data"))]);
        let restored = Restored {
            root: Path::new("/b/rootfs"),
            outside: &outside(),
            configuration: Some(Path::new("/c")),
            sources: &sources,
            descriptors: &["/dev/pts/0".to_owned(), "pipe:[9]".to_owned(), "pipe:[9]".to_owned()],
        };
        let request = restore(&CriuFlags::default(), &RestoreFlags::default(), DIRECTORIES, &restored).unwrap();
        let options = request.options.unwrap();
        assert_eq!(options.ext_mnt, [mount("7", "/host/data")]);
        let inherited: Vec<_> = options.inherit_fd.iter().map(|fd| (fd.key.as_str(), fd.fd)).collect();
        let expected = [("pipe:[9]", FIRST_FREE), ("pipe:[9]", FIRST_FREE + 1), ("extRootNetNS", FIRST_FREE + 2)];
        assert_eq!(inherited, expected);
        assert_eq!(options.config_file.as_deref(), Some("/c"));
    }

    /// Every flag is set, so that one that is forgotten shows as the default.
    fn all_flags() -> CriuFlags {
        CriuFlags {
            tcp_established: true,
            ext_unix_sk: true,
            shell_job: true,
            lazy_pages: true,
            file_locks: true,
            auto_dedup: true,
            cgroups: CgroupsMode::Strict,
            empty_namespaces: 0x4000_0000,
            network_lock: Some(NetworkLock::Nftables),
            ..CriuFlags::default()
        }
    }

    fn assert_all(options: &CriuOpts, mode: CgroupsMode) {
        let switches = [
            options.tcp_established,
            options.ext_unix_sk,
            options.shell_job,
            options.lazy_pages,
            options.file_locks,
            options.auto_dedup,
        ];
        assert_eq!(switches, [Some(true); 6]);
        let numbers = (options.manage_cgroups_mode, options.empty_ns, options.network_lock);
        assert_eq!(numbers, (Some(mode as i32), Some(0x4000_0000), Some(2)));
        assert_eq!((options.images_dir_fd, options.work_dir_fd), (5, Some(6)));
    }

    #[test]
    fn every_flag_reaches_criu() {
        let directories = Directories { images: 5, work: Some(6) };
        let (outside, annotations) = (HostResources::default(), HashMap::new());
        let dumped = Dumped {
            pid: 42,
            rootfs: Path::new("/b/rootfs"),
            outside: &outside,
            annotations: &annotations,
            freezer: Some("/sys/fs/cgroup/freezer/c1"),
            points: &[],
            descriptors: &[],
        };
        let own = DumpFlags {
            parent_path: Some("../first".into()),
            leave_running: true,
            tcp_skip_in_flight: true,
            link_remap: true,
            page_server: Some(("10.0.0.1".to_owned(), 27)),
            pre_dump: false,
        };
        let options = dump(&all_flags(), &own, directories, &dumped).unwrap().options.unwrap();
        assert_all(&options, CgroupsMode::Strict);
        assert_eq!([options.leave_running, options.tcp_skip_in_flight, options.link_remap], [Some(true); 3]);
        assert_eq!((options.parent_img.as_deref(), options.track_mem), (Some("../first"), Some(true)));
        let server = options.page_server.unwrap();
        assert_eq!((server.address.as_deref(), server.port), (Some("10.0.0.1"), Some(27)));
        assert_eq!(options.freeze_cgroup.as_deref(), Some("/sys/fs/cgroup/freezer/c1"));

        let sources = BTreeMap::new();
        let root = Path::new("/r");
        let restored = Restored { root, outside: &outside, configuration: None, sources: &sources, descriptors: &[] };
        let own = RestoreFlags {
            tcp_close: true,
            lsm_profile: Some("apparmor:x".to_owned()),
            lsm_mount_context: Some("label".to_owned()),
        };
        let options = restore(&all_flags(), &own, directories, &restored).unwrap().options.unwrap();
        assert_all(&options, CgroupsMode::Ignore);
        let labels = (options.lsm_profile.as_deref(), options.lsm_mount_context.as_deref());
        assert_eq!((options.tcp_close, labels), (Some(true), (Some("apparmor:x"), Some("label"))));
    }

    #[test]
    fn the_annotation_decides_about_the_configuration_file() {
        let with = |value: &str| HashMap::from([("org.criu.config".to_owned(), value.to_owned())]);
        assert_eq!(config_file(&with("/x.conf"), |_| true).as_deref(), Some("/x.conf"));
        assert_eq!(config_file(&with(""), |_| true), None);
        assert_eq!(config_file(&HashMap::new(), |_| true).as_deref(), Some(CONFIG_FILES[0]));
        assert_eq!(config_file(&HashMap::new(), |path| path.contains("runc")).as_deref(), Some(CONFIG_FILES[1]));
        assert_eq!(config_file(&HashMap::new(), |_| false), None);
    }

    #[test]
    fn namespaces_that_criu_cannot_enter_are_refused() {
        check(&outside()).unwrap();
        let error = |outside: HostResources| format!("{:#}", check(&outside).unwrap_err());
        for kind in ["mnt", "uts", "ipc", "cgroup", "time"] {
            let namespaces = BTreeMap::from([(kind.to_owned(), PathBuf::from("/x"))]);
            let words = error(HostResources { namespaces, ..HostResources::default() });
            assert!(
                words.contains(&format!("a {kind} namespace that is joined by path cannot be restored")),
                "{words}"
            );
        }
        let words = error(HostResources { new_user_namespace: true, ..HostResources::default() });
        assert!(words.contains("user namespace"), "{words}");
    }
}
