//! `--debug` and `--trace`: each thing that is done, in order, with monotonic times: a line of the log, a span for the
//! recorder. Without them nothing is timed.

use std::cell::Cell;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::container::hooks::{Hook, Output};
use crate::error::Field;
use crate::init::report::StepIndex;
use crate::init::step::{Planned, Step};
use crate::lifecycle::host::Host;
use crate::plan::Label;
use crate::sys::timeline::{Timeline, monotonic};
use crate::trace::{Category, Done};

/// What is traced of a container, or of a process of exec.
pub struct Trace<'a> {
    host: &'a Host<'a>,
    who: String,
    steps: Option<Steps>,
    /// When [`Trace::passed`] has told something, or this was made.
    mark: Cell<Duration>,
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
        let trace = Self { host, who, steps: None, mark: Cell::default() };
        if trace.is_on() {
            trace.mark.set(monotonic());
        }
        trace
    }

    /// Of a container.
    pub fn of(host: &'a Host<'a>, id: impl Display) -> Self {
        Self::new(host, format!("container {id}"))
    }

    fn is_on(&self) -> bool {
        self.host.log.is_debug() || self.host.recorder.is_on()
    }

    /// Does `work`, which is `what`, also if it fails: a span, and a line of the log.
    pub fn told<T, E>(&self, category: Category, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if !self.host.log.is_debug() {
            return self.timed(category, what, work);
        }
        let begun = monotonic();
        let done = self.timed(category, what, work);
        self.tell(monotonic(), begun, what);
        done
    }

    /// The same for the recorder alone: while init is at work, its steps are told later, and lines are in the order of time.
    pub fn timed<T, E>(&self, category: Category, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if !self.host.recorder.is_on() {
            return work();
        }
        self.host.recorder.begin(category, what, monotonic());
        let done = work();
        self.host.recorder.end(monotonic(), done.is_err());
        done
    }

    /// Runs a hook of the runtime's; an error names it.
    pub fn hook(&self, hook: &Hook, state: &[u8], directory: &Path, output: &Output) -> Result<()> {
        let run = || hook.run(state, directory, output);
        self.told(Category::Hook, &hook.field, run).with_context(|| Field::new(hook.field.clone()))
    }

    /// Tells steps of init that `create` has made, and of which `start` sees no more than that they are done by now.
    pub fn passed(&self, steps: &[Label]) {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return };
        if !self.is_on() {
            return;
        }
        let (begun, end) = (self.mark.get(), monotonic());
        let all: Vec<String> = steps.iter().map(in_words).collect();
        let numbers = match steps.len() {
            1 => format!("step {}", first.index),
            _ => format!("steps {} to {}", first.index, last.index),
        };
        self.tell(end, begun, &format!("{numbers}: {}", all.join(", ")));
        let what = steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>().join(", ");
        let category = if last.is_hook() { Category::Hook } else { Category::Step };
        self.host.recorder.steps(&[Done { category, name: &what, field: &last.field, begun, end }]);
        self.mark.set(end);
    }

    /// Where init is to note when it has done each of so many steps; None: nobody wants to know.
    pub fn begin(&mut self, steps: usize) -> Result<Option<Rc<Timeline>>> {
        if !self.is_on() {
            return Ok(None);
        }
        let timeline = Rc::new(Timeline::new(steps).context("times of the steps")?);
        self.steps = Some(Steps { timeline: timeline.clone(), begun: monotonic(), told: 0 });
        Ok(Some(timeline))
    }

    /// Tells the steps that init has done meanwhile.
    pub fn steps(&mut self, list: &[Planned]) {
        let Some(mut steps) = self.steps.take() else { return };
        let mut done = Vec::new();
        if let Some(begun) = steps.timeline.begun().filter(|_| steps.told == 0) {
            steps.begun = begun;
        }
        for (index, planned) in StepIndex::number(list).skip(steps.told) {
            // The step of a birth ends in another process.
            let Some(end) = steps.timeline.at(index.place()) else { continue };
            let label = Label::new(index, planned);
            self.tell(end, steps.begun, &format!("step {index}: {}", in_words(&label)));
            done.push((category(&planned.step), label, steps.begun, end));
            (steps.begun, steps.told) = (end, index.place() + 1);
        }
        let spans = done.iter().map(|(category, label, begun, end)| Done {
            category: *category,
            name: &label.what,
            field: &label.field,
            begun: *begun,
            end: *end,
        });
        self.host.recorder.steps(&spans.collect::<Vec<_>>());
        self.steps = Some(steps);
    }

    fn tell(&self, end: Duration, begun: Duration, what: &str) {
        if !self.host.log.is_debug() {
            return;
        }
        let took = end.saturating_sub(begun).as_micros();
        let (seconds, micros) = (end.as_secs(), end.subsec_micros());
        self.host.log.debug(&format!("{}: [{seconds}.{micros:06}] {what}: {took} us", self.who));
    }
}

/// In some steps init waits for the runtime, or runs a hook.
fn category(step: &Step) -> Category {
    match step {
        Step::WaitForIdMaps
        | Step::WaitForNetDevices
        | Step::WaitForUnit
        | Step::RuntimeHooks
        | Step::WaitForGo
        | Step::WaitAtGate => Category::Wait,
        Step::Hook(..) => Category::Hook,
        _ => Category::Step,
    }
}

fn in_words(Label { field, what, .. }: &Label) -> String {
    if field.is_empty() { what.clone() } else { format!("{what} ({field})") }
}
