//! Root filesystems, as containerd's snapshotters give them. The shim has a mount namespace of its own, which takes root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use containerd_shim_ocirt::api::task::{CreateTaskRequest, Mount};

use crate::world::World;

/// Mounts, runs init, which says what it sees, and deletes; nothing may be left then.
fn run(world: &World, mounts: Vec<Mount>) -> Result<String, String> {
    let request = CreateTaskRequest { rootfs: mounts, ..world.request() };
    let created = world.create_as(&request).map_err(|status| status.message);
    if created.is_ok() {
        world.run();
    }
    assert_eq!(world.mounts(), [""; 0]);
    created.map(|()| world.read("seen"))
}

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|word| (*word).to_owned()).collect();
    Mount { r#type: kind.to_owned(), source: source.to_owned(), options, ..Mount::default() }
}

/// A shim whose init writes what this script prints; none without root, which is said.
fn world(script: &str) -> Option<World> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root mounts");
        return None;
    }
    let mut world = World::new("").private().own_programs();
    let directory = world.directory.display().to_string();
    world.write("program", &format!("cd {directory}/bundle/rootfs; ({script}) >{directory}/seen 2>&1"));
    world.start().unwrap();
    Some(world)
}

impl World {
    /// A directory with one file.
    fn layer(&self, name: &str, file: &str) -> String {
        let layer = self.directory.join(name);
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(file), name).unwrap();
        layer.display().to_string()
    }
}

#[test]
fn a_bind_mount_is_read_only_where_it_is_said() {
    let Some(world) = world("cat a; touch b; mount | grep $PWD | grep -c nosuid") else { return };
    let layer = world.layer("layer", "a");
    let seen = run(&world, vec![mount("bind", &layer, &["rbind", "ro", "nosuid"])]).unwrap();
    assert_eq!(seen, "layertouch: cannot touch 'b': Read-only file system\n1\n");
    assert!(run(&world, vec![mount("bind", &layer, &["rbind", "rw"])]).is_ok());
    assert!(fs::exists(format!("{layer}/b")).unwrap());
}

/// What `ro` means to mount(8), to the OCI, and to containerd's own code: the mount, and none of those below it.
#[test]
fn a_read_only_bind_mount_leaves_those_below_it_as_they_are() {
    let Some(world) = world("touch a || touch below/b && mount | grep $PWD/below | grep -c noexec") else { return };
    let layer = world.layer("layer", "file");
    fs::create_dir_all(format!("{layer}/below")).unwrap();
    let mounts = vec![
        mount("bind", &layer, &["bind"]),
        Mount { target: "below".to_owned(), ..mount("tmpfs", "t", &["noexec"]) },
    ];
    let rootfs = world.bundle().join("rootfs").display().to_string();
    // The whole of it once more, on itself.
    let again = mount("bind", &rootfs, &["rbind", "ro"]);
    let seen = run(&world, [mounts, vec![again]].concat()).unwrap();
    assert_eq!(seen, "touch: cannot touch 'a': Read-only file system\n2\n");
}

#[test]
fn an_overlay_has_more_layers_than_a_page_of_options() {
    let Some(world) = world("cat a100 a199; echo; ls | wc -l") else { return };
    let deep = "snapshots-that-have-a-long-name/and-another-level-below-them";
    let layers: Vec<String> =
        (100..200).map(|number| world.layer(&format!("{deep}/{number}"), &format!("a{number}"))).collect();
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > 4096);
    let expected = format!("{deep}/100{deep}/199\n100\n");
    assert_eq!(run(&world, vec![mount("overlay", "overlay", &[&lower])]).unwrap(), expected);
}

#[test]
fn lower_directories_have_the_ids_of_the_container() {
    let Some(world) = world("stat -c '%u %g' a; stat -c %u upper; touch new") else { return };
    let lower = world.layer("lower", "a");
    let upper = world.layer("upper", "upper");
    let work = world.layer("work", "x");
    let (lower, upper, work) = (format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}"));
    let words = ["uidmap=0:100000:65536", "gidmap=0:200000:65536", &lower, &upper, &work];
    assert_eq!(run(&world, vec![mount("overlay", "overlay", &words)]).unwrap(), "100000 200000\n0\n");
    let owner = fs::metadata(world.directory.join("lower/a")).unwrap().uid();
    assert_eq!((owner, fs::exists(world.directory.join("upper/new")).unwrap()), (0, true));
}

#[test]
fn a_bind_mount_has_the_ids_of_the_container() {
    let Some(world) = world("stat -c '%u %g' a; mount | grep -c ' on '$PWD") else { return };
    let layer = world.layer("layer", "a");
    let words = ["rbind", "uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    assert_eq!(run(&world, vec![mount("bind", &layer, &words)]).unwrap(), "100000 200000\n1\n");
}

#[test]
fn a_file_is_mounted_by_a_loop_device_which_goes_with_it() {
    let Some(world) = world("cat a; touch b; losetup -a | grep -c disk") else { return };
    let layer = world.layer("layer", "a");
    let disk = world.directory.join("disk").display().to_string();
    let made =
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-O", "^has_journal", "-d", &layer, &disk, "1M"]).status();
    assert!(made.unwrap().success());
    let seen = run(&world, vec![mount("ext4", &disk, &["loop", "ro"])]).unwrap();
    assert_eq!(seen, "layertouch: cannot touch 'b': Read-only file system\n1\n");
    let devices = Command::new("losetup").arg("-a").output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&devices).contains(&disk));
    let error = run(&world, vec![mount("ext4", "/no/such/disk", &["loop"])]).unwrap_err();
    assert!(error.contains("/no/such/disk: No such file or directory"), "{error}");
}

#[test]
fn a_helper_mounts_what_is_its_own() {
    let Some(world) = world("cat a") else { return };
    let layer = world.layer("layer", "a");
    world.program("mount.fuse3", "echo \"$@\" >arguments; exec mount --bind $1 $2");
    assert_eq!(run(&world, vec![mount("fuse3.x", &layer, &["ro", "uid=5"])]).unwrap(), "layer");
    let rootfs = world.bundle().join("rootfs");
    assert_eq!(world.read("arguments"), format!("{layer} {} -o ro -o uid=5 -t x\n", rootfs.display()));
    world.program("mount.fuse3", "echo no such thing >&2; exit 1");
    let error = run(&world, vec![mount("fuse3.x", &layer, &[])]).unwrap_err();
    assert!(error.contains("no such thing"), "{error}");
}

#[test]
fn mounts_go_below_the_root_and_never_out_of_it() {
    let Some(world) = world("cat x/b deep/c") else { return };
    let root = world.layer("root", "a");
    fs::create_dir_all(format!("{root}/deep")).unwrap();
    let outside = world.layer("outside", "o");
    fs::create_dir_all(format!("{root}{outside}")).unwrap();
    symlink(&outside, format!("{root}/x")).unwrap();
    let below = |layer: &str, file: &str, target: &str, words: &[&str]| Mount {
        target: target.to_owned(),
        ..mount("bind", &world.layer(layer, file), words)
    };
    let mounts = vec![
        mount("bind", &root, &["rbind"]),
        below("one", "b", "/x", &["rbind", "ro"]),
        below("two", "c", "deep", &["rbind"]),
    ];
    // An absolute link is one of the root filesystem's.
    let resolved = format!("cat {}/b deep/c; touch .{outside}/new 2>/dev/null || echo read-only", &outside[1..]);
    let directory = world.directory.display().to_string();
    world.write("program", &format!("cd {directory}/bundle/rootfs; ({resolved}) >{directory}/seen 2>&1"));
    assert_eq!(run(&world, mounts).unwrap(), "onetworead-only\n");
    assert!(!fs::exists(format!("{outside}/b")).unwrap());
    let missing = vec![mount("bind", &root, &["rbind"]), below("two", "c", "missing", &["rbind"])];
    let error = run(&world, missing).unwrap_err();
    assert!(error.contains("target missing: No such file or directory"), "{error}");
}

/// Another mount on top of the root filesystem, or below it, which somebody else has made.
#[test]
fn what_others_have_mounted_goes_too() {
    let script =
        "mount -t tmpfs t .; cd $PWD; mkdir a b; mount -t tmpfs t a; mkdir a/c; mount -t tmpfs t a/c; echo done";
    let Some(world) = world(script) else { return };
    let layer = world.layer("layer", "a");
    assert_eq!(run(&world, vec![mount("bind", &layer, &["rbind"])]).unwrap(), "done\n");
}

/// The link of an image leads elsewhere through what is mounted there: what was to be read-only was not, and the root
/// filesystem was instead.
#[test]
fn a_link_through_the_mount_itself_makes_nothing_writable() {
    let Some(world) = world("touch p/d/new; touch new && echo written") else { return };
    let root = world.layer("root", "a");
    fs::create_dir_all(format!("{root}/usr/bin")).unwrap();
    fs::create_dir_all(format!("{root}/p/d/x/z")).unwrap();
    symlink("/p/d/x/z", format!("{root}/p/d/bin")).unwrap();
    symlink("p/d/bin/../..", format!("{root}/data")).unwrap();
    let precious = world.layer("precious", "file");
    symlink("/usr/bin", format!("{precious}/bin")).unwrap();
    let below = Mount { target: "/data".to_owned(), ..mount("bind", &precious, &["rbind", "ro", "rslave"]) };
    let seen = run(&world, vec![mount("bind", &root, &["rbind", "rw"]), below]).unwrap();
    assert_eq!(seen, "touch: cannot touch 'p/d/new': Read-only file system\nwritten\n");
    assert_eq!(fs::read_dir(&precious).unwrap().count(), 2);
}

/// By descriptors: of a file system that is mounted, as of one that is bound.
#[test]
fn propagation_and_ids_are_those_of_the_mount_that_was_made() {
    let script =
        "grep -o \"$PWD[^ ]* [^ ]* shared\" /proc/self/mountinfo | grep -o '/[a-z]* [^ ]* shared$'; stat -c %u two";
    let Some(world) = world(script) else { return };
    let root = world.layer("root", "a");
    fs::create_dir_all(format!("{root}/one")).unwrap();
    fs::create_dir_all(format!("{root}/two")).unwrap();
    let at = |target: &str, mount: Mount| Mount { target: target.to_owned(), ..mount };
    let ids = ["uidmap=0:5:1", "gidmap=0:5:1"];
    let mounts = vec![
        mount("bind", &root, &["rbind"]),
        at("one", mount("tmpfs", "t", &["nodev", "shared", "size=4096"])),
        at("two", mount("tmpfs", "t", &["nosuid", ids[0], ids[1]])),
    ];
    assert_eq!(run(&world, mounts).unwrap(), "/one rw,nodev,relatime shared\n5\n");
}
