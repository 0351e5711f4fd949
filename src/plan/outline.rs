//! Both sides of a creation in words, for `ocirt plan`: what the runtime does, then what init does.

use super::decided::Plan;
use crate::sys::namespace::Kinds;

impl Plan {
    /// A line for each thing that the runtime does outside, with `runtime: ` before it, and then each of init's steps.
    pub fn outline(&self) -> String {
        let line = |(field, what): (String, String)| match field.as_str() {
            "" => format!("runtime: {what}\n"),
            field => format!("runtime: {what}    # {field}\n"),
        };
        let outside: String = self.outside().into_iter().map(line).collect();
        format!("{outside}{self}")
    }

    fn outside(&self) -> Vec<(String, String)> {
        let mut lines = self.cgroup.outline();
        let new = Kinds::from_flags(u32::try_from(self.clone_flags).unwrap_or_default());
        if !new.is_empty() {
            lines.push(("linux.namespaces".to_owned(), format!("clone init into new namespaces: {new}")));
        }
        let hooks = self.runtime_hooks.iter().map(|hook| (hook.field.clone(), hook.to_string()));
        lines.extend(hooks);
        lines
    }
}
