//! The check of names that become part of paths: ids of containers and processes, namespaces. containerd has checked
//! them too (its package identifiers); it is cheap here, and a path that leaves its directory would be root's.

/// The longest id, as containerd has it.
const LONGEST: usize = 76;

/// What is wrong with `text`, which is a `what`: letters and digits in groups, with one of `.`, `_` and `-` between two
/// groups. So none is a flag, a hidden file or a directory above.
pub fn check(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what}: empty"));
    }
    if text.len() > LONGEST {
        return Err(format!("{what}: {} characters: more than {LONGEST}", text.len()));
    }
    let is_group = |group: &str| !group.is_empty() && group.chars().all(|c| c.is_ascii_alphanumeric());
    if !text.split(['.', '_', '-']).all(is_group) {
        return Err(format!("{what} {text:?}: not of letters and digits, with '.', '_' or '-' between them"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_directory_or_be_a_flag_is_no_id() {
        for good in ["a", "k8s.io", "x_1-2", "3b0c", &"x".repeat(76)] {
            assert_eq!(check("id", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "..a",
            ".a",
            "-a",
            "--all",
            "_a",
            "a-",
            "a--b",
            "a+b",
            "a/b",
            "../a",
            "a\0",
            "a b",
            "ä",
            &"x".repeat(77),
        ] {
            assert!(check("id", bad).is_err(), "{bad:?}");
        }
    }
}
