//! `copy-symlink`, `src-nofollow` and `dest-nofollow`: crun's options for binds from and onto symlinks (crun(1)).

use ocirt_integration::bundle::Bundle;
use ocirt_integration::{has, probe, tests};
use serde_json::json;

tests![
    a_symlink_as_source_is_copied,
    a_symlink_as_source_is_mounted_itself,
    a_symlink_as_destination_is_covered_itself,
];

/// A bundle, and in it a symlink that leads nowhere in the container.
fn with_link() -> (Bundle, String) {
    let bundle = Bundle::new();
    let link = bundle.dir.join("link");
    std::os::unix::fs::symlink("dangling/target", &link).expect("symlink");
    let link = link.to_str().expect("UTF-8").to_owned();
    (bundle, link)
}

fn a_symlink_as_source_is_copied() {
    let (bundle, link) = with_link();
    let bundle = bundle.symlink("data/same", "dangling/target");
    let bundle = bundle.mount("bind", &link, "/new/copy", &["bind", "copy-symlink"]);
    let bundle = bundle.mount("bind", &link, "/data/same", &["bind", "copy-symlink"]);
    let bundle = bundle.mount("bind", "/etc/passwd", "/etc/plain", &["bind", "copy-symlink", "ro"]);
    let outside = bundle.inside("/new/copy");
    let output =
        bundle.run(probe!(readlink "/new/copy"; readlink "/data/same"; touch "/etc/plain"; mountof "/etc/plain"));
    let answers = output.ok().answers();
    assert_eq!((&answers[0], &answers[1]), (&json!("dangling/target"), &json!("dangling/target")));
    assert!(has(&answers[3]["options"], "ro"), "what is no symlink is bound: {}", answers[3]);
    assert_eq!(std::fs::read_link(outside).expect("symlink").to_str(), Some("dangling/target"));
    // Something else is there.
    for bundle in [with_link().0.symlink("data/same", "other"), with_link().0.file("data/same", "text")] {
        bundle.mount("bind", &link, "/data/same", &["bind", "copy-symlink"]).refused("/data/same");
    }
}

fn a_symlink_as_source_is_mounted_itself() {
    let (bundle, link) = with_link();
    let bundle = bundle.file("etc/file", "below");
    let bundle = bundle.mount("bind", &link, "/etc/file", &["bind", "src-nofollow"]);
    let outside = bundle.inside("/etc/file");
    assert_eq!(bundle.run(probe!(readlink "/etc/file")).ok().answer(), "dangling/target");
    assert_eq!(std::fs::read_to_string(outside).expect("file"), "below");
    let (bundle, link) = with_link();
    bundle.mount("bind", &link, "/etc/file", &["bind"]).refused("link");
}

fn a_symlink_as_destination_is_covered_itself() {
    let bundle = Bundle::new().symlink("etc/link", "file").file("etc/file", "where it leads");
    std::fs::write(bundle.dir.join("source"), "from outside").expect("file");
    let bundle = bundle.mount("bind", "source", "/etc/link", &["bind", "dest-nofollow"]);
    let bundle = bundle.mount("bind", "source", "/etc/made", &["bind", "dest-nofollow"]);
    let output = bundle.run(probe!(read "/etc/link"; read "/etc/file"; read "/etc/made"; mountof "/etc/link"));
    let answers = output.ok().answers();
    assert_eq!((&answers[0], &answers[1]), (&json!("from outside"), &json!("where it leads")));
    assert_eq!((&answers[2], answers[3].is_null()), (&json!("from outside"), false));
    let tmpfs = Bundle::new().mount("tmpfs", "tmpfs", "/mnt", &["dest-nofollow"]);
    tmpfs.refused("mounts[6]");
}
