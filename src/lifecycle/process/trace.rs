//! `--debug`: each thing that is done, in order, with the monotonic time at its end and how long it took. Without it nothing
//! is timed.

use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::container::hooks::{Hook, Output};
use crate::error::Field;
use crate::init::report::StepIndex;
use crate::init::step::Planned;
use crate::lifecycle::host::Host;
use crate::plan::Label;
use crate::sys::timeline::{Timeline, monotonic};

/// What is traced of a container, or of a process of exec.
pub struct Trace<'a> {
    host: &'a Host<'a>,
    who: String,
    steps: Option<Steps>,
    /// When [`Trace::passed`] has told something, or this was made.
    mark: Duration,
}

/// The steps of init.
struct Steps {
    timeline: Rc<Timeline>,
    begun: Duration,
    /// How many are told.
    told: usize,
}

impl<'a> Trace<'a> {
    /// `who`: the command and the container, as in an error.
    pub fn new(host: &'a Host<'a>, who: String) -> Self {
        let mark = if host.log.is_debug() { monotonic() } else { Duration::ZERO };
        Self { host, who, steps: None, mark }
    }

    /// Of a container.
    pub fn of(host: &'a Host<'a>, id: impl Display) -> Self {
        Self::new(host, format!("container {id}"))
    }

    /// Does `work`, which is `what`, also if it fails.
    pub fn timed<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.host.log.is_debug() {
            return work();
        }
        let begun = monotonic();
        let done = work();
        self.tell(monotonic(), begun, what);
        done
    }

    /// Runs a hook of the runtime's; an error names it.
    pub fn hook(&self, hook: &Hook, state: &[u8], directory: &Path, output: &Output) -> Result<()> {
        let run = || hook.run(state, directory, output);
        self.timed(&hook.field, run).with_context(|| Field::new(hook.field.clone()))
    }

    /// Tells steps of init that `create` has made, and of which `start` sees no more than that they are done by now.
    pub fn passed(&mut self, steps: &[Label]) {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return };
        if !self.host.log.is_debug() {
            return;
        }
        let end = monotonic();
        let all: Vec<String> = steps.iter().map(in_words).collect();
        let numbers = match steps.len() {
            1 => format!("step {}", first.index),
            _ => format!("steps {} to {}", first.index, last.index),
        };
        self.tell(end, self.mark, &format!("{numbers}: {}", all.join(", ")));
        self.mark = end;
    }

    /// Where init is to note when it has done each of so many steps; None: nobody wants to know.
    pub fn begin(&mut self, steps: usize) -> Result<Option<Rc<Timeline>>> {
        if !self.host.log.is_debug() {
            return Ok(None);
        }
        let timeline = Rc::new(Timeline::new(steps).context("--debug")?);
        self.steps = Some(Steps { timeline: timeline.clone(), begun: monotonic(), told: 0 });
        Ok(Some(timeline))
    }

    /// Tells the steps that init has done meanwhile.
    pub fn steps(&mut self, list: &[Planned]) {
        let Some(mut steps) = self.steps.take() else { return };
        for (index, planned) in StepIndex::number(list).skip(steps.told) {
            // The step of a birth ends in another process.
            let Some(end) = steps.timeline.at(index.place()) else { continue };
            self.tell(end, steps.begun, &format!("step {index}: {}", in_words(&Label::new(index, planned))));
            (steps.begun, steps.told) = (end, index.place() + 1);
        }
        self.steps = Some(steps);
    }

    fn tell(&self, end: Duration, begun: Duration, what: &str) {
        let took = end.saturating_sub(begun).as_micros();
        let (seconds, micros) = (end.as_secs(), end.subsec_micros());
        self.host.log.debug(&format!("{}: [{seconds}.{micros:06}] {what}: {took} us", self.who));
    }
}

fn in_words(Label { field, what, .. }: &Label) -> String {
    if field.is_empty() { what.clone() } else { format!("{what} ({field})") }
}
