//! `--debug`: each thing that is done, in order, with the monotonic time at its end and how long it took. Without it nothing
//! is timed.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

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
        Self { host, who, steps: None }
    }

    /// Does `work`, which is `what`.
    pub fn timed<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.host.log.is_debug() {
            return work();
        }
        let begun = monotonic();
        let done = work()?;
        self.tell(monotonic(), begun, what);
        Ok(done)
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
            let Label { field, what, .. } = Label::new(index, planned);
            let place = if field.is_empty() { String::new() } else { format!(" ({field})") };
            self.tell(end, steps.begun, &format!("step {index}: {what}{place}"));
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
