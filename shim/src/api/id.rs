//! The check of names that become part of paths: ids of containers and processes, namespaces. containerd has checked
//! them too (its package identifiers); it is cheap here, and a path that leaves its directory would be root's.

/// The longest id; containerd's own limit is 76.
const LONGEST: usize = 128;

/// What is wrong with `text`, which is a `what`.
pub fn check(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what}: empty"));
    }
    if text.len() > LONGEST {
        return Err(format!("{what}: {} characters: more than {LONGEST}", text.len()));
    }
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if !text.chars().all(is_usual) || text.chars().all(|c| c == '.') {
        return Err(format!("{what} {text:?}: not of letters, digits, '.', '_', '-' and '+'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_directory_is_no_id() {
        for good in ["a", "k8s.io", "x_1-2", "..a", "3b0c+1"] {
            assert_eq!(check("id", good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../a", "a\0", "a b", "ä", &"x".repeat(129)] {
            assert!(check("id", bad).is_err(), "{bad:?}");
        }
    }
}
