//! Both sides of a creation in words, for `ocirt plan`: what the runtime does, then what init does.

use std::fmt;

use serde::Serialize;

use super::decided::Plan;
use super::label::Deed;
use crate::sys::namespace::Kinds;

/// What will be done, in the order of each side.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    pub runtime: Vec<Deed>,
    pub init: Vec<Deed>,
}

impl Plan {
    pub fn outline(&self) -> Outline {
        Outline { runtime: self.outside(), init: self.steps.iter().map(Deed::of).collect() }
    }

    fn outside(&self) -> Vec<Deed> {
        let mut lines = self.cgroup.outline();
        let new = Kinds::from_flags(u32::try_from(self.clone_flags).unwrap_or_default());
        if !new.is_empty() {
            lines.push(("linux.namespaces".to_owned(), format!("clone init into new namespaces: {new}")));
        }
        let hooks = self.runtime_hooks.iter().map(|hook| (hook.field.clone(), hook.to_string()));
        lines.extend(hooks);
        lines.into_iter().map(|(field, what)| Deed { field, what }).collect()
    }
}

impl fmt::Display for Outline {
    /// A line for each, with `runtime: ` before what the runtime does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.runtime.iter().try_for_each(|deed| writeln!(f, "runtime: {deed}"))?;
        self.init.iter().try_for_each(|deed| writeln!(f, "{deed}"))
    }
}
