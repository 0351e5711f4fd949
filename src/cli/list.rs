//! `ocirt list`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::output::{formatted, print};
use crate::lifecycle::{self, Host, StateView};

/// List the containers below --root
#[derive(Args, Debug)]
pub struct List {
    /// Format of the list: table or json [default: table]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    format: String,

    /// List the containers below every directory that an engine is known to use, with that directory
    #[arg(long)]
    all_roots: bool,

    /// Print nothing but ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub fn execute(self, host: &Host) -> Result<()> {
        let list = if self.all_roots { lifecycle::list_everywhere } else { lifecycle::list };
        let states = list(host).context("list")?;
        print(&self.text(&states).context("list")?)
    }

    fn text(&self, states: &[StateView]) -> Result<String> {
        match self.format.as_str() {
            _ if self.quiet => Ok(states.iter().map(|state| format!("{}\n", state.id)).collect()),
            format => formatted(format, states, || Ok(table(states))),
        }
    }
}

/// The table as runc's, which is Go's tabwriter: columns of at least 12 characters, with three of them blank.
fn table(states: &[StateView]) -> String {
    let path = |path: &PathBuf| path.display().to_string();
    let rows = states.iter().map(|state| {
        let StateView { id, pid, status, bundle, created, owner, root, .. } = state;
        let cells = [id.clone(), pid.to_string(), status.to_string(), path(bundle), created.clone(), owner.clone()];
        cells.into_iter().chain(root.as_ref().map(path)).collect()
    });
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].into_iter();
    let root = states.iter().any(|state| state.root.is_some()).then_some("ROOT");
    let header = header.chain(root).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths = [12; 7];
    for row in &rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = (cell.chars().count() + 3).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        if let Some((last, cells)) = row.split_last() {
            for (cell, width) in cells.iter().zip(widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
            text.push_str(last);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::state_of;

    fn list(format: &str, quiet: bool) -> List {
        List { format: format.to_owned(), quiet, all_roots: false }
    }

    #[test]
    fn the_table_is_that_of_runc() {
        assert_eq!(
            list("table", false).text(&[]).unwrap(),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
        assert_eq!(
            list("table", false).text(&[state_of("c1")]).unwrap(),
            "ID          PID         STATUS      BUNDLE          CREATED                          OWNER\n\
             c1          3075        running     /tmp/clicmp/b   2026-11-23T19:46:04.233813708Z   root\n"
        );
        assert!(
            list("table", false).text(&[state_of("a_long_name")]).unwrap().contains("\na_long_name   3075        ")
        );
    }

    #[test]
    fn several_roots_are_a_column() {
        let state = StateView { root: Some("/run/x".into()), ..state_of("c1") };
        let table = list("table", false).text(&[state]).unwrap();
        let ends: Vec<_> = table.lines().map(|line| line.split_whitespace().next_back()).collect();
        assert_eq!(ends, [Some("ROOT"), Some("/run/x")]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0].find("ROOT"), lines[1].find("/run/x"));
    }

    #[test]
    fn json_is_that_of_runc() {
        assert_eq!(list("json", false).text(&[]).unwrap(), "null\n");
        assert_eq!(
            list("json", false).text(&[state_of("c1")]).unwrap(),
            "[{\"ociVersion\":\"1.0.2-dev\",\"id\":\"c1\",\"pid\":3075,\"status\":\"running\",\"bundle\":\"/tmp/clicmp/b\",\
             \"rootfs\":\"/tmp/clicmp/b/rootfs\",\"created\":\"2026-11-23T19:46:04.233813708Z\",\
             \"annotations\":{\"a.x\":\"é\\\"q\",\"z.b\":\"\\u003ca\\u0026b\\u003e\"},\"owner\":\"root\"}]\n"
        );
    }

    #[test]
    fn quiet_is_ids_alone() {
        assert_eq!(list("json", true).text(&[state_of("a"), state_of("b")]).unwrap(), "a\nb\n");
        assert_eq!(list("table", true).text(&[]).unwrap(), "");
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert_eq!(list("xml", false).text(&[]).unwrap_err().to_string(), "invalid format option");
    }
}
