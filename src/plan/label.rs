//! Steps in words: a list of them, one of them, and one that failed.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::container::hooks;
use crate::init::report::{Failure, StepIndex};
use crate::init::step::Planned;
use crate::sys::{Errno, Text, Words};

pub fn word(steps: &[Planned], failure: &Failure) -> StepError {
    let label = steps.get(failure.step.place()).map(|planned| Label::new(failure.step, planned));
    StepError::new(label.as_ref(), failure)
}

pub fn list(steps: &[Planned], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    steps.iter().try_for_each(|planned| writeln!(f, "{}", Deed::of(planned)))
}

/// One thing that is done.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    /// The place in config.json that asks for it; empty where none does.
    pub field: String,
    pub what: String,
}

impl Deed {
    pub fn of(planned: &Planned) -> Self {
        Self { field: planned.field.clone(), what: planned.step.to_string() }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.field.is_empty() { Ok(()) } else { write!(f, "    # {}", self.field) }
    }
}

/// Which step this is, for whoever has no plan: `start`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Label {
    pub index: StepIndex,
    /// The place in config.json, e.g. `mounts[3]`; empty for a step that no field asks for.
    pub field: String,
    /// The step as text, e.g. `mount tmpfs on /tmp`.
    pub what: String,
}

impl Label {
    pub fn new(index: StepIndex, planned: &Planned) -> Self {
        Self { index, field: planned.field.clone(), what: planned.step.to_string() }
    }

    /// Whether the step runs a hook.
    pub fn is_hook(&self) -> bool {
        self.field.starts_with("hooks.")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// A step that failed in init: where, what, why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepError {
    pub field: String,
    pub what: String,
    /// Empty where no call failed, but a hook.
    pub call: String,
    pub errno: Errno,
    pub detail: Text,
    /// What a hook said on standard error.
    pub said: String,
}

impl StepError {
    pub fn new(label: Option<&Label>, failure: &Failure) -> Self {
        let (field, what) = match label {
            Some(label) => (label.field.clone(), label.what.clone()),
            None => (String::new(), format!("step {}", failure.step)),
        };
        Self {
            field,
            what,
            call: failure.call.to_string(),
            errno: failure.errno,
            detail: failure.detail,
            said: String::new(),
        }
    }

    /// The error with what a hook said, which came with the report as a file.
    pub fn with_said(self, file: Option<OwnedFd>) -> Self {
        let said = file.map(|file| hooks::said(file.as_fd())).unwrap_or_default();
        Self { said, ..self }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        match (self.call.as_str(), self.detail.is_empty()) {
            ("", _) => write!(f, "{}: {}", self.what, self.detail)?,
            (call, true) => write!(f, "{}: {call}: {}", self.what, Words(self.errno))?,
            (call, false) => write!(f, "{}: {call}: {} ({})", self.what, Words(self.errno), self.detail)?,
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said) }
    }
}

impl std::error::Error for StepError {}
