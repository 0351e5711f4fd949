//! The configuration that README.md shows for an engine: what the walks run with is what users copy.

use std::path::Path;

/// The fenced block whose info string ends in `name`, as in "```toml containers.conf".
pub fn snippet(name: &str) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    find(&text, name).ok_or(format!("README.md: no block for {name}"))
}

fn find(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines();
    lines.find(|line| {
        line.strip_prefix("```").and_then(|info| info.split_once(' ')).is_some_and(|(_, of)| of == name)
    })?;
    Some(lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a section that says that each is tested.
    #[test]
    fn every_block_of_use_it_with_is_what_something_starts_with() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split("\n## ").find(|section| section.starts_with("Use it with")).unwrap();
        let blocks: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("```")).step_by(2).collect();
        assert!(blocks.len() > 4, "{blocks:?}");
        // systemd starts the units, in the suite.
        let users =
            [("snippet", include_str!("engine.rs")), ("block", include_str!("../../tests/suite/supervisor.rs"))];
        for block in blocks {
            let (_, name) = block.split_once(' ').unwrap_or_else(|| panic!("a block without a name: {block}"));
            let is_used = users.iter().any(|(call, text)| text.contains(&format!("{call}(\"{name}\")")));
            assert!(is_used, "nothing starts with {name}");
        }
    }

    #[test]
    fn a_block_is_found_by_its_name() {
        let text = "a\n```sh\nno\n```\n```toml a.conf\none\ntwo\n```\n";
        assert_eq!(find(text, "a.conf").as_deref(), Some("one\ntwo\n"));
        assert_eq!(find(text, "b.conf"), None);
    }
}
