//! `list --all-roots`: the containers of every engine of the host.

use std::os::unix::fs::PermissionsExt;

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![the_containers_of_all_engines_are_listed];

/// `list` beside an engine is empty, since each engine has a root directory of its own.
fn the_containers_of_all_engines_are_listed() {
    // /run is another for this test, and systemd is not there.
    need(Need::Cgroupfs, !host::all_with_systemd());
    need_ocirt();
    need_root();
    // This test's own /run: what an engine has there is not its business.
    // Only root writes it, or the kernel might follow no link there (fs.protected_symlinks).
    let (tmpfs, run, data) = (c"tmpfs".as_ptr(), c"/run".as_ptr(), c"mode=755".as_ptr());
    // SAFETY: the strings are NUL-terminated literals.
    let ret = unsafe { libc::mount(tmpfs, run, tmpfs, 0, data.cast()) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    let engines = ["/run/docker/runtime-ocirt/moby", "/run/containerd/runc/k8s.io", "/run/ocirt"];
    let bundles = engines.map(|root| {
        std::fs::create_dir_all(root).expect("root");
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o700)).expect("root");
        let bundle = Bundle::new().write(probe!(sleep 60));
        bundle.call("create").root(Some(root.into())).run().ok();
        (root, bundle)
    });
    // Another runtime's.
    std::fs::create_dir_all("/run/runc/theirs").expect("root");
    std::fs::write("/run/runc/theirs/state.json", r#"{"id":"theirs","init_process_pid":1}"#).expect("state");
    // Nobody's: a link that another user has put there.
    std::os::unix::fs::symlink("/run/docker", "/run/crun").expect("link");
    std::os::unix::fs::lchown("/run/crun", Some(1000), None).expect("owner");
    let own = Bundle::new().start(probe!(sleep 60));
    let listed = call(["list", "--all-roots", "--format", "json"]).ok();
    assert!(listed.stderr.contains("/run/crun: symlink crun: belongs to user 1000"), "{}", listed.stderr);
    let listed: Vec<_> =
        listed.json().as_array().expect("a list").iter().map(|row| (row["id"].clone(), row["root"].clone())).collect();
    for (root, bundle) in &bundles {
        assert!(listed.contains(&(json!(bundle.id), json!(root))), "{listed:?}");
        let list = Call::new(["list", "--quiet"]).root(Some(root.into())).run().ok();
        assert_eq!(list.stdout, format!("{}\n", bundle.id));
        Call::new(["delete", "--force", &bundle.id]).root(Some(root.into())).run().ok();
    }
    assert!(listed.contains(&(json!(own.id()), json!(host::root()))), "{listed:?}");
    assert_eq!(listed.len(), 4, "{listed:?}");
    let table = call(["list", "--all-roots"]).ok().stdout;
    assert!(table.lines().next().is_some_and(|line| line.ends_with("ROOT")), "{table}");
    // SAFETY: the string is a NUL-terminated literal.
    let ret = unsafe { libc::umount2(c"/run".as_ptr(), libc::MNT_DETACH) };
    assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
}
