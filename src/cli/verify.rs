//! `ocirt verify`.

use anyhow::{Context, Result};
use clap::Args;

use super::output::{TextOrJson, print};
use super::{json, select};
use crate::error::printable;
use crate::lifecycle::{self, Host, Id, Row, Verdict, Verified};

/// Tell whether a container that runs is what its config.json said
///
/// Compares what `create` was told, and `update` and `mounts` since, with what the kernel says of the container: namespaces,
/// id maps, capabilities, seccomp, labels, limits, mounts, masks, cgroups and parameters, of every process and every mount.
/// It changes nothing. The exit status is 0 if all is as it was told, 3 if something differs, and 1 if something cannot be
/// looked at.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Verify {
    /// Show what is as it was told, too
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    output: TextOrJson,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Verify {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("verify", &self.id)?;
        self.verify(host, &id).with_context(|| format!("verify {id}"))
    }

    fn verify(&self, host: &Host, id: &Id) -> Result<i32> {
        let is_json = self.output.is_json()?;
        let verified = lifecycle::verify(host, id)?;
        print(&if is_json { json::compact(&verified)? + "\n" } else { text(&verified, self.all) })?;
        Ok(match verified.verdict {
            Verdict::Same => 0,
            Verdict::Unknown => 1,
            Verdict::Differs | Verdict::Changed => 3,
        })
    }
}

/// A line that says it all, and one for each row that is asked for.
fn text(verified: &Verified, all: bool) -> String {
    let Verified { id, processes, rows, .. } = verified;
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let words = [(Verdict::Differs, "differ"), (Verdict::Changed, "changed meanwhile"), (Verdict::Unknown, "unknown")];
    let found: Vec<String> = words
        .iter()
        .filter(|(verdict, _)| count(*verdict) > 0)
        .map(|(verdict, word)| format!("{} {word}", count(*verdict)))
        .collect();
    let found = if found.is_empty() { "as it was told".to_owned() } else { found.join(", ") };
    let plural =
        |count: usize, one: &str, ending: &str| format!("{count} {one}{}", if count == 1 { "" } else { ending });
    let (all_rows, processes) = (plural(rows.len(), "row", "s"), plural(*processes, "process", "es"));
    let mut text = format!("{id}: {found} ({all_rows}, {processes})\n");
    let shown: Vec<&Row> = rows.iter().filter(|row| all || row.verdict != Verdict::Same).collect();
    let width = shown.iter().map(|row| row.field.chars().count()).max().unwrap_or_default();
    for row in shown {
        text += &line(row, width);
    }
    text
}

fn line(row: &Row, width: usize) -> String {
    let verdict = match row.verdict {
        Verdict::Same => "same",
        Verdict::Differs => "differs",
        Verdict::Changed => "changed",
        Verdict::Unknown => "unknown",
    };
    let pid = row.pid.filter(|_| row.verdict != Verdict::Same).map(|pid| format!(" (process {pid})"));
    // What is found may have been named by the container.
    let found = printable(&row.found);
    let wanted = printable(&row.wanted);
    format!("  {verdict:<7}  {:<width$}  wanted {wanted}, found {found}{}\n", row.field, pid.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Status;

    fn verified(rows: Vec<Row>) -> Verified {
        Verified { id: "c1".to_owned(), status: Status::Running, verdict: Verdict::Differs, processes: 2, rows }
    }

    #[test]
    fn differences_come_as_aligned_lines() {
        let rows = vec![
            Row::new("root.readonly", "true", "/ (rw)\u{1b}", false),
            Row::new("process.rlimits", "at most 7", "8", false).of(9),
            Row::new("hostname", "a", "a", true),
        ];
        let expected = "c1: 2 differ (3 rows, 2 processes)\n  \
                        differs  root.readonly    wanted true, found / (rw)\\u{1b}\n  \
                        differs  process.rlimits  wanted at most 7, found 8 (process 9)\n";
        assert_eq!(text(&verified(rows.clone()), false), expected);
        let all = expected.to_owned() + "  same     hostname         wanted a, found a\n";
        assert_eq!(text(&verified(rows), true), all);
        let rows = vec![Row::new("hostname", "a", "a", true)];
        assert_eq!(text(&verified(rows), false), "c1: as it was told (1 row, 2 processes)\n");
    }
}
