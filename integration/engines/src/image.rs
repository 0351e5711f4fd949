//! The image `box` that all walks run: a static busybox, as an archive that every engine loads (the format of `docker
//! save`), made without any engine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that walks call; busybox is all of them.
const APPLETS: &str = "sh ash cat echo ls id env sleep true false mount umount hostname ip ping httpd nc wget ps kill \
    touch mkdir rm ln chmod chown stat head tail grep sed awk test dd nproc uname tty stty seq sync cut tr wc sort \
    mktemp readlink date free df time yes mkfifo mknod su whoami ulimit pwd cp mv find sysctl unshare top vi init";

/// The root file system, as a directory below `place`.
pub fn rootfs(place: &Path) -> Result<PathBuf, String> {
    let root = place.join("rootfs");
    for directory in ["bin", "etc", "tmp", "root", "home/web", "var/www", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(directory)).map_err(|error| format!("{directory}: {error}"))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).map_err(|error| format!("/bin/busybox: {error}"))?;
    for applet in APPLETS.split_whitespace() {
        // Made once; an archive of it is all that is used.
        let _ = symlink("busybox", root.join("bin").join(applet));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\n";
    let files = [("etc/passwd", passwd), ("etc/group", "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n")];
    for (path, text) in files.into_iter().chain([("var/www/index.html", "hello from the box\n")]) {
        fs::write(root.join(path), text).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(root)
}

/// `place/box.tar`, an archive of the images `box` and `pause`, and `place/rootfs.tar`, their one layer.
pub fn archive(place: &Path) -> Result<(), String> {
    rootfs(place)?;
    let script = r#"
        set -eu
        tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C rootfs -cf rootfs.tar .
        mkdir -p image && cp rootfs.tar image/layer.tar
        layer=$(sha256sum <rootfs.tar | cut -d' ' -f1)
        config() {
            printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":%s,"WorkingDir":"/"},' \
                "$(dpkg --print-architecture)" "$1"
            printf '"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},' "$layer"
            printf '"history":[{"created":"1970-01-01T00:00:00Z","created_by":"box"}],"created":"1970-01-01T00:00:00Z"}'
        }
        config '["sh"]' >image/box.json
        config '["sleep","infinity"]' >image/pause.json
        printf '[{"Config":"box.json","RepoTags":["localhost/box:latest"],"Layers":["layer.tar"]},' >image/manifest.json
        printf '{"Config":"pause.json","RepoTags":["localhost/pause:latest"],"Layers":["layer.tar"]}]' >>image/manifest.json
        tar -C image -cf box.tar manifest.json box.json pause.json layer.tar"#;
    let output = Command::new("sh").arg("-c").arg(script).current_dir(place).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("image: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
