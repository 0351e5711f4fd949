//! `process.ioPriority`: the I/O scheduling class and priority (ioprio_set(2)).

use std::fmt;

use anyhow::{Result, bail};
use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority};

use crate::error::field;
use crate::sys::{Fault, sched};

/// A class and a priority in it, 0 being the highest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoPriority {
    class: IOPriorityClass,
    priority: u16,
}

/// The prepared priority, which must be from 0 to 7.
pub fn compile(spec: &LinuxIOPriority) -> Result<IoPriority> {
    match u16::try_from(spec.priority()) {
        Ok(priority @ 0..=7) => Ok(IoPriority { class: spec.class(), priority }),
        _ => bail!(field!("process.ioPriority.priority"; "{} is not between 0 and 7", spec.priority())),
    }
}

impl IoPriority {
    /// The real-time class takes CAP_SYS_NICE or CAP_SYS_ADMIN, so this comes before the capabilities go.
    pub fn apply(&self) -> Result<(), Fault> {
        let class = match self.class {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        Ok(sched::set_io_priority(class, self.priority)?)
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set I/O priority {} {}", self.class, self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn compiled(json: &str) -> Result<IoPriority> {
        compile(&serde_json::from_str(json).expect("priority"))
    }

    #[test]
    fn a_priority_beyond_seven_is_refused() {
        for priority in [8, -1, 65536] {
            let json = format!(r#"{{"class":"IOPRIO_CLASS_BE","priority":{priority}}}"#);
            let error = compiled(&json).unwrap_err().to_string();
            assert_eq!(error, format!("process.ioPriority.priority: {priority} is not between 0 and 7"));
        }
    }

    #[test]
    fn the_kernel_has_the_class_and_priority() {
        in_a_child(|| {
            for (name, class) in [("RT", 1), ("BE", 2), ("IDLE", 3)] {
                let priority = compiled(&format!(r#"{{"class":"IOPRIO_CLASS_{name}","priority":4}}"#))?;
                assert_eq!(priority.to_string(), format!("set I/O priority IOPRIO_CLASS_{name} 4"));
                heap_free(|| priority.apply())?;
                assert_eq!(sched::io_priority()?, (class, 4));
            }
            Ok(())
        });
    }
}
