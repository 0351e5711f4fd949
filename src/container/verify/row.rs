//! What the reader says of one field: what is wanted, what is found, and whether that is the same.

use serde::Serialize;

use crate::error::Field;

/// One comparison.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The field of config.json.
    pub field: String,
    pub wanted: String,
    pub found: String,
    pub verdict: Verdict,
    /// The process that it was found with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// What weighs most comes first.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Differs,
    /// It was different each time that it was looked at.
    Changed,
    /// It cannot be looked at; `found` says why.
    Unknown,
    /// It is as config.json says, or stricter by what a process does to itself.
    Same,
}

impl Row {
    pub fn new(field: impl Into<String>, wanted: impl Into<String>, found: impl Into<String>, holds: bool) -> Self {
        let verdict = if holds { Verdict::Same } else { Verdict::Differs };
        Self { field: field.into(), wanted: wanted.into(), found: found.into(), verdict, pid: None }
    }

    pub fn unknown(field: impl Into<String>, wanted: impl Into<String>, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::new(field, wanted, why, false) }
    }

    /// The same of a process.
    pub fn of(self, pid: i32) -> Self {
        Self { pid: Some(pid), ..self }
    }

    pub fn holds(&self) -> bool {
        self.verdict == Verdict::Same
    }
}

impl From<Row> for Field {
    /// `linux.seccomp: wanted a filter, found mode 0 (process 7)`
    fn from(row: Row) -> Self {
        let Row { field, wanted, found, pid, .. } = row;
        let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        Field::new(field).is(format!("wanted {wanted}, found {found}{process}"))
    }
}
