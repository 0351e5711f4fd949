//! Files of the bundle, as the shim makes them: whole, for root alone, and whatever lies in their place.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file that replaces the one of that name. A link in its place is replaced, and not followed.
pub fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = directory.join(format!(".{name}"));
    // That of a shim that was killed.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // O_EXCL follows no link either.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(bytes)?;
    fs::rename(&path, directory.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced() {
        let place = std::env::temp_dir().join(format!("shim-file-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        fs::write(place.join("victim"), "kept").unwrap();
        for name in ["note", ".note"] {
            symlink("victim", place.join(name)).unwrap();
        }
        replace(&place, "note", b"new").unwrap();
        replace(&place, "note", b"newer").unwrap();
        assert_eq!(fs::read_to_string(place.join("victim")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(place.join("note")).unwrap(), "newer");
        assert_eq!(fs::symlink_metadata(place.join("note")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2);
        fs::remove_dir_all(&place).unwrap();
    }
}
