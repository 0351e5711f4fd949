//! The root directories that engines give to their runtimes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Patterns of absolute paths, in which `*` is any one name. Each engine's is in docs/engines.md.
const ROOTS: [&str; 5] = [
    // Podman, Buildah, CRI-O, and callers who name none.
    "/run/ocirt",
    // The same, where ocirt is installed by the name of the runtime that they know.
    "/run/runc",
    "/run/crun",
    // containerd and Kubernetes, by namespace.
    "/run/containerd/runc/*",
    // Docker, by the runtime's name in daemon.json and by namespace.
    "/run/docker/*/*",
];

/// Those that exist, and `own`, sorted.
pub fn everywhere(own: &Path) -> BTreeSet<PathBuf> {
    let known = ROOTS.iter().flat_map(|pattern| matching(Path::new(pattern)));
    known.chain([own.to_owned()]).collect()
}

/// Whose container it is, as far as can be told: Podman, Buildah and CRI-O write it into an annotation, which whoever writes
/// config.json chooses; Docker's and containerd's roots are their own.
pub fn engine(root: &Path, annotations: &HashMap<String, String>) -> Option<&'static str> {
    let manager = annotations.get("io.container.manager").map(String::as_str);
    match manager {
        Some("libpod") => Some("podman"),
        Some("cri-o") => Some("cri-o"),
        _ if root.starts_with("/run/docker") => Some("docker"),
        _ if root.starts_with("/run/containerd/runc/k8s.io") => Some("kubernetes (containerd)"),
        _ if root.starts_with("/run/containerd") => Some("containerd"),
        _ => None,
    }
}

/// The directories that match a pattern. One that cannot be read has none.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for name in pattern {
        let below = |directory: PathBuf| -> Vec<PathBuf> {
            if name != OsStr::new("*") {
                return vec![directory.join(name)];
            }
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect()
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found.retain(|directory| directory.is_dir());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_one_directory() {
        let place = std::env::temp_dir().join(format!("ocirt-roots-{}", std::process::id()));
        for path in ["a/one/x", "a/two/x", "a/two/y/x", "b/one/x"] {
            fs::create_dir_all(place.join(path)).unwrap();
        }
        fs::write(place.join("a/file"), "").unwrap();
        let found: BTreeSet<_> = matching(&place.join("a/*/x")).into_iter().collect();
        let expected = ["a/one/x", "a/two/x"].map(|path| place.join(path));
        assert_eq!(found, BTreeSet::from(expected));
        assert!(matching(&place.join("nowhere/*")).is_empty());
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn an_engine_is_told_by_what_it_writes_or_by_its_root() {
        let nothing = HashMap::new();
        let says = |manager: &str| HashMap::from([("io.container.manager".to_owned(), manager.to_owned())]);
        let of = |root: &str, annotations: &HashMap<String, String>| engine(Path::new(root), annotations);
        assert_eq!(of("/run/docker/runtime-ocirt/moby", &nothing), Some("docker"));
        assert_eq!(of("/run/containerd/runc/k8s.io", &nothing), Some("kubernetes (containerd)"));
        assert_eq!(of("/run/containerd/runc/default", &nothing), Some("containerd"));
        assert_eq!(of("/run/ocirt", &says("libpod")), Some("podman"));
        assert_eq!(of("/run/ocirt", &says("cri-o")), Some("cri-o"));
        assert_eq!(of("/run/ocirt", &says("else")), None);
        assert_eq!(of("/run/dockers", &nothing), None);
    }

    #[test]
    fn the_callers_own_is_among_them() {
        assert!(everywhere(Path::new("/no/such/root")).contains(Path::new("/no/such/root")));
    }
}
