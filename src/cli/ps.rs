//! `ocirt ps`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use super::output::{formatted, print};
use super::select;
use crate::error::io_error;
use crate::lifecycle::{self, Host};

/// Show the processes of a container
///
/// The table is what ps(1) prints, reduced to the container's processes; PS_OPTIONS are handed to it, and the default
/// is -ef. They must make it print a column PID.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Ps {
    /// Format of the output: table, or json for a list of pids [default: table]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    format: String,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Options for ps(1)
    #[arg(value_name = "PS_OPTIONS", allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl Ps {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("ps", &self.id)?;
        let context = || format!("ps {id}");
        let pids = lifecycle::ps(host, &id).with_context(context)?;
        let table = || processes(&self.options).and_then(|table| only(&table, &pids));
        print(&formatted(&self.format, &pids, table).with_context(context)?)
    }
}

/// What ps(1) prints.
fn processes(options: &[OsString]) -> Result<String> {
    let default = [OsString::from("-ef")];
    let options = if options.is_empty() { &default } else { options };
    let output = Command::new("ps").args(options).output();
    let output = output.map_err(|error| io_error("exec", &error)).context("ps")?;
    if !output.status.success() {
        bail!("ps: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header and the lines of `pids`.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    let mut text = format!("{header}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let pid = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = pid.parse().map_err(|_| anyhow!("unable to parse pid {pid:?}"))?;
        if pids.contains(&pid) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "UID        PID  PPID  C STIME TTY          TIME CMD\n\
                         root         1     0  0 19:12 ?        00:00:00 init\n\
                         root      3075     1  0 19:46 ?        00:00:00 sleep 300\n";

    #[test]
    fn only_the_containers_processes_are_shown() {
        assert_eq!(
            only(TABLE, &[3075]).unwrap(),
            "UID        PID  PPID  C STIME TTY          TIME CMD\n\
             root      3075     1  0 19:46 ?        00:00:00 sleep 300\n"
        );
        assert_eq!(only(TABLE, &[]).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_table_without_pids_is_refused() {
        assert_eq!(only("USER\nroot\n", &[1]).unwrap_err().to_string(), "couldn't find PID field in ps output");
        assert_eq!(only("PID\nroot\n", &[1]).unwrap_err().to_string(), "unable to parse pid \"root\"");
    }
}
