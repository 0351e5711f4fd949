//! `ocirt --version`.

use std::ffi::OsStr;
use std::path::Path;

/// The release, the commit it was built from, and the specification it implements.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const COMMIT: Option<&str> = option_env!("OCIRT_COMMIT");
pub const SPEC: &str = "1.3.0";

/// The lines of `--version`. Docker takes the word before `version`, what follows it, and the line `commit:`; go-runc
/// wants `runc version`, so that is what one gets who calls this program by that name.
pub fn text(program: &OsStr) -> String {
    let name = if Path::new(program).file_name() == Some(OsStr::new("runc")) { "runc" } else { "ocirt" };
    let commit = COMMIT.unwrap_or("unknown");
    format!("{name} version {VERSION}\ncommit: {commit}\nspec: {SPEC}\nkernel: 5.14 or newer\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_has_the_name_it_was_called_by() {
        let first = |program: &str| text(OsStr::new(program)).lines().next().unwrap().to_owned();
        assert_eq!(first("/usr/bin/ocirt"), format!("ocirt version {VERSION}"));
        assert_eq!(first("/opt/bin/runc"), format!("runc version {VERSION}"));
        assert_eq!(first("docker-runc"), format!("ocirt version {VERSION}"));
        assert_eq!(first(""), format!("ocirt version {VERSION}"));
    }

    #[test]
    fn engines_find_commit_and_specification() {
        let text = text(OsStr::new("ocirt"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("commit: ") && lines[1].len() > "commit: ".len());
        assert_eq!(lines[2], "spec: 1.3.0");
        assert_eq!(lines.iter().filter(|line| line.contains("version")).count(), 1);
    }
}
