use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use serde_json::{Value, json};

use super::*;
use crate::sys::mount::FsContext;
use crate::sys::scratch::{Directory, in_mount_namespace, in_user_namespace};
use crate::sys::stdio;

fn compile(devices: Value, nodes: Nodes) -> anyhow::Result<Vec<Device>> {
    Device::compile(&serde_json::from_value::<Vec<LinuxDevice>>(devices).unwrap(), nodes, &mut Faults::first())
}

fn only(device: Value, nodes: Nodes) -> Device {
    compile(json!([device]), nodes).unwrap().pop().unwrap()
}

#[test]
fn every_container_has_the_default_devices_unless_it_describes_them_itself() {
    let texts = |devices: Value| -> Vec<String> {
        compile(devices, Nodes::Made).unwrap().iter().map(ToString::to_string).collect()
    };
    let all = texts(json!([]));
    assert_eq!(
        all,
        [
            "device /dev/null c 1:3 0666",
            "device /dev/zero c 1:5 0666",
            "device /dev/full c 1:7 0666",
            "device /dev/random c 1:8 0666",
            "device /dev/urandom c 1:9 0666",
            "device /dev/tty c 5:0 0666",
        ]
    );
    let some = texts(json!([
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 8612, "uid": 5, "gid": 6 },
        { "path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2 },
        { "path": "/dev/pipe", "type": "p" }
    ]));
    assert_eq!(some.len(), 7);
    assert_eq!(some[5..], ["device /dev/null c 1:3 0644 5:6", "device /dev/pipe p 0666"]);
}

#[test]
fn a_device_that_cannot_be_is_refused_with_its_field() {
    let error = |device: Value| format!("{:#}", compile(json!([device]), Nodes::Made).unwrap_err());
    assert_eq!(
        error(json!({ "path": "null", "type": "c", "major": 1, "minor": 3 })),
        "linux.devices[0]: path: null: not an absolute path"
    );
    assert_eq!(
        error(json!({ "path": "/dev/x", "type": "c", "major": -1, "minor": 3 })),
        "linux.devices[0]: major: -1: out of range"
    );
    assert_eq!(
        error(json!({ "path": "/dev/x", "type": "a", "major": 1, "minor": 3 })),
        "linux.devices[0]: type: a: a device has one of the types c, u, b, p"
    );
}

#[test]
fn what_has_taken_a_devices_name_is_not_given_away() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let char = json!({ "path": "/vol/tun", "type": "c", "major": 10, "minor": 200, "uid": 3, "gid": 4 });
        let device = only(char, Nodes::Made);
        fs::create_dir(dir.join("vol")).unwrap();
        fs::write(dir.join("vol/tun"), "of somebody else").unwrap();
        let vol = dir.root().open(c"/vol", Links::Refuse).unwrap();
        let fault = device.give_away(vol.as_fd(), c"tun").unwrap_err();
        assert_eq!(fault.errno, Errno::ESTALE);
        assert_eq!(fault.detail.to_string(), "/vol/tun has become something that is not c 10:200");
        assert_eq!(fs::metadata(dir.join("vol/tun")).unwrap().uid(), 0);
    });
}

#[test]
fn nodes_get_their_type_numbers_permissions_and_owner() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let char = json!({ "path": "/dev/net/tun", "type": "u", "major": 10, "minor": 200, "fileMode": 438, "uid": 3, "gid": 4 });
        let block = json!({ "path": "/dev/disk", "type": "b", "major": 7, "minor": 1000, "fileMode": 384 });
        for device in [char, block, json!({ "path": "/a/b/pipe", "type": "p" })] {
            let device = only(device, Nodes::Made);
            device.apply(&dir.root()).unwrap();
            device.apply(&dir.root()).expect("the same device may exist");
        }
        let tun = fs::symlink_metadata(dir.join("dev/net/tun")).unwrap();
        assert_eq!((tun.mode(), tun.rdev(), tun.uid(), tun.gid()), (0o020666, 10 << 8 | 200, 3, 4));
        let disk = fs::symlink_metadata(dir.join("dev/disk")).unwrap();
        assert_eq!((disk.mode(), disk.rdev()), (0o060600, 7 << 8 | 1000 & 0xff | (1000 & !0xff) << 12));
        assert!(fs::symlink_metadata(dir.join("a/b/pipe")).unwrap().file_type().is_fifo());
        assert_eq!(fs::metadata(dir.join("a/b")).unwrap().permissions().mode() & 0o777, 0o755);
    });
}

#[test]
fn an_existing_file_that_is_another_device_is_an_error() {
    let dir = Directory::new();
    fs::create_dir(dir.join("dev")).unwrap();
    fs::write(dir.join("dev/null"), "").unwrap();
    let device = only(json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 3 }), Nodes::Made);
    assert_eq!(
        device.apply(&dir.root()).unwrap_err().to_string(),
        "mknodat: file exists (/dev/null exists and is not c 1:3)"
    );
    assert!(fs::metadata(dir.join("dev/null")).unwrap().is_file());
}

#[test]
fn a_dev_that_is_a_symlink_is_refused_and_leads_nowhere() {
    let dir = Directory::new();
    fs::create_dir(dir.join("victim")).unwrap();
    fs::create_dir(dir.join("rootfs")).unwrap();
    symlink(dir.join("victim"), dir.join("rootfs/dev")).unwrap();
    let root = RootFd::new(file::open_directory(&c_path(&dir.join("rootfs")).unwrap()).unwrap());
    for device in Device::compile(&[], Nodes::Made, &mut Faults::first()).unwrap() {
        assert_eq!(device.apply(&root).unwrap_err().errno, Errno::ELOOP);
    }
    assert_eq!(DevLinks { core: false }.apply(&root).unwrap_err().errno, Errno::ELOOP);
    assert_eq!(fs::read_dir(dir.join("victim")).unwrap().count(), 0);
}

#[test]
fn bound_nodes_are_the_hosts_and_must_be_what_they_should() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        for device in Device::compile(&[], Nodes::Bound, &mut Faults::first()).unwrap() {
            device.apply(&dir.root()).unwrap();
        }
        fs::write(dir.join("dev/null"), "gone").unwrap();
        assert_eq!(fs::read(dir.join("dev/null")).unwrap(), b"");
        let wrong = only(json!({ "path": "/dev/zero", "type": "c", "major": 1, "minor": 3 }), Nodes::Bound);
        assert_eq!(
            wrong.apply(&Directory::new().root()).unwrap_err().to_string(),
            "statx: no such device (/dev/zero of the host is not c 1:3)"
        );
        // A leaf that is a symlink is not followed.
        let other = Directory::new();
        fs::create_dir(other.join("dev")).unwrap();
        symlink("/target", other.join("dev/null")).unwrap();
        let null = only(json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 3 }), Nodes::Bound);
        let error = null.apply(&other.root()).unwrap_err().to_string();
        assert!(error.contains("/dev/null exists and is not c 1:3"), "{error}");
        assert!(!other.join("target").exists());
    });
}

#[test]
fn the_links_of_dev_are_made_and_ptmx_is_the_containers() {
    let dir = Directory::new();
    fs::create_dir(dir.join("dev")).unwrap();
    fs::write(dir.join("dev/ptmx"), "image").unwrap();
    fs::write(dir.join("dev/stdin"), "image").unwrap();
    DevLinks { core: true }.apply(&dir.root()).unwrap();
    let leads = |name: &str| fs::read_link(dir.join(name)).unwrap().to_str().unwrap().to_owned();
    assert_eq!(leads("dev/fd"), "/proc/self/fd");
    assert_eq!(leads("dev/stdout"), "/proc/self/fd/1");
    assert_eq!(leads("dev/stderr"), "/proc/self/fd/2");
    assert_eq!(leads("dev/core"), "/proc/kcore");
    assert_eq!(leads("dev/ptmx"), "pts/ptmx");
    assert_eq!(fs::read(dir.join("dev/stdin")).unwrap(), b"image");
}

#[test]
fn pipes_go_to_the_containers_user_and_other_files_stay_the_hosts() {
    in_mount_namespace(|| {
        let dir = Directory::new();
        let null = fs::metadata("/dev/null").unwrap();
        let copy = only(json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 3 }), Nodes::Made);
        copy.apply(&dir.root()).unwrap();
        let streams = [dir.join("dev/null"), dir.join("file")];
        fs::write(&streams[1], "").unwrap();
        for path in &streams {
            stdio::become_all(fs::File::open(path).unwrap().as_fd()).unwrap();
            crate::sys::proc_self::own_stdio(7).unwrap();
            assert_eq!(fs::metadata(path).unwrap().uid(), 0, "{}", path.display());
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        stdio::become_all(reader.as_fd()).unwrap();
        crate::sys::proc_self::own_stdio(7).unwrap();
        assert_eq!(file::stat(reader.as_fd()).unwrap().uid, 7);
        let after = fs::metadata("/dev/null").unwrap();
        assert_eq!((null.uid(), null.mode()), (after.uid(), after.mode()));
    });
}

#[test]
fn the_hosts_nodes_are_bound_where_none_may_be_made() {
    let dir = Directory::new();
    fs::create_dir(dir.join("dev")).unwrap();
    in_user_namespace(|| {
        let dev = dir.root().target_dir(c"/dev", Links::Refuse).unwrap();
        let tmpfs = FsContext::open(c"tmpfs").unwrap();
        // As in every configuration; in one that all may write to, O_CREAT asks who owns the node (may_create_in_sticky).
        tmpfs.set(c"mode", Some(c"755")).unwrap();
        tmpfs.create().unwrap();
        attach(tmpfs.mount(0).unwrap().as_fd(), dev.as_fd()).unwrap();
        // Twice: what is bound already is the same device.
        for nodes in [Nodes::Made, Nodes::Bound] {
            for device in Device::compile(&[], nodes, &mut Faults::first()).unwrap() {
                device.apply(&dir.root()).unwrap();
            }
        }
        // Not by fs::write: to open with O_CREAT what others own is refused in a sticky directory.
        let null = fs::OpenOptions::new().write(true).open(dir.join("dev/null")).unwrap();
        std::io::Write::write_all(&mut &null, b"gone").unwrap();
        assert_eq!(fs::read(dir.join("dev/null")).unwrap(), b"");
    });
}
