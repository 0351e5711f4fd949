//! Where a group's shim listens. containerd dials whatever `start` answers; the form is that of Go's shim, since tools
//! look for sockets there.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Refused, refuse};

/// Where sockets are unless containerd says otherwise.
pub const DIRECTORY: &str = "/run/containerd/s";

/// The longest path that containerd takes: `sun_path` (unix(7)) less what it keeps for itself.
const LONGEST: usize = 106;

/// The socket of a group: DIRECTORY/SHA-256 of "ADDRESS/NAMESPACE/GROUP". `address` is that of containerd's own socket,
/// so that two of them do not meet.
pub fn socket(directory: Option<&str>, address: &str, namespace: &str, group: &str) -> Result<String, Refused> {
    let directory = directory.unwrap_or(DIRECTORY);
    if !directory.starts_with('/') {
        refuse!("socket directory {directory:?}: not absolute");
    }
    let digest = Sha256::digest(clean(&format!("{address}/{namespace}/{group}")));
    let mut path = clean(directory);
    path.push('/');
    for byte in digest {
        // A String takes whatever is written to it.
        let _ = write!(path, "{byte:02x}");
    }
    if path.len() > LONGEST {
        refuse!("socket {path}: {} characters: more than {LONGEST}", path.len());
    }
    Ok(path)
}

/// The address of a socket, as `start` answers it.
pub fn url(socket: &str) -> String {
    format!("unix://{socket}")
}

/// Go's `path.Clean`: no empty parts, no `.`, and `..` takes away what is before it. Of texts only: links are not
/// asked.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_named_by_the_sum_of_what_it_serves() {
        // printf %s /run/containerd/containerd.sock/k8s.io/pod1 | sha256sum
        let expected = "/run/containerd/s/8e264b1ad347c80aee5f3dea6e4bb53d72026989222058782273d5db043c7723";
        assert_eq!(socket(None, "/run/containerd/containerd.sock", "k8s.io", "pod1").as_deref(), Ok(expected));
        assert_eq!(
            socket(Some("/run/containerd/./s/"), "/run/containerd//containerd.sock", "k8s.io", "pod1").as_deref(),
            Ok(expected)
        );
        assert_eq!(url("/run/s"), "unix:///run/s");
    }

    #[test]
    fn another_group_namespace_or_containerd_is_another_socket() {
        let sockets = [("/a", "n", "g"), ("/b", "n", "g"), ("/a", "m", "g"), ("/a", "n", "h")]
            .map(|(address, namespace, group)| socket(None, address, namespace, group).unwrap());
        for (index, one) in sockets.iter().enumerate() {
            assert!(sockets.iter().skip(index + 1).all(|other| other != one));
        }
    }

    #[test]
    fn a_directory_must_be_absolute_and_leave_room() {
        assert_eq!(socket(Some("s"), "/a", "n", "g").unwrap_err().0, "socket directory \"s\": not absolute");
        assert!(socket(Some(&format!("/{}", "d".repeat(40))), "/a", "n", "g").is_ok());
        let error = socket(Some(&format!("/{}", "d".repeat(41))), "/a", "n", "g").unwrap_err();
        assert!(error.0.ends_with(": 107 characters: more than 106"), "{error}");
    }

    #[test]
    fn paths_are_cleaned_as_go_does_it() {
        let table = [
            ("", "."),
            ("/", "/"),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("/../a//b/./c/..", "/a/b"),
            ("a/b/../..", "."),
        ];
        for (path, expected) in table {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
