//! A new time namespace and its `linux.timeOffsets` (time_namespaces(7), Linux 5.6).

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, bail};
use oci_spec::runtime::LinuxTimeOffset;

use crate::error::field;
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::{Fault, beneath, file};

/// A new time namespace, with the text for /proc/PID/timens_offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeNamespace {
    offsets: String,
}

/// The prepared namespace if `new` has a time one. Offsets need it: those of a joined one are fixed.
pub fn compile(offsets: Option<&HashMap<String, LinuxTimeOffset>>, new: Kinds) -> Result<Option<TimeNamespace>> {
    let mut sorted: Vec<_> = offsets.into_iter().flatten().collect();
    sorted.sort_by_key(|(clock, _)| clock.as_str());
    if !new.contains(Kind::Time) {
        if !sorted.is_empty() {
            bail!(field!("linux.timeOffsets"; "needs a new time namespace in linux.namespaces"));
        }
        return Ok(None);
    }
    let mut text = String::new();
    for (clock, offset) in sorted {
        if clock != "monotonic" && clock != "boottime" {
            bail!(field!("linux.timeOffsets"; "unknown clock {clock:?}, only monotonic and boottime have offsets"));
        }
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanoseconds > 999_999_999 {
            bail!(field!("linux.timeOffsets.{clock}.nanosecs"; "{nanoseconds} is a second or more"));
        }
        writeln!(text, "{clock} {seconds} {nanoseconds}")?;
    }
    Ok(Some(TimeNamespace { offsets: text }))
}

impl TimeNamespace {
    /// Moves the caller into the new namespace, through `proc`, the root of a procfs. The offsets can be written only
    /// before the first process is in it, hence unshare, write, join. Takes CAP_SYS_TIME in the user namespace.
    pub fn apply(&self, proc: BorrowedFd<'_>) -> Result<(), Fault> {
        namespace::unshare(Kinds::NONE.with(Kind::Time))?;
        if !self.offsets.is_empty() {
            let written = beneath::write_own(proc, c"timens_offsets", self.offsets.as_bytes());
            written.map_err(|error| error.about(c"/proc/self/timens_offsets"))?;
        }
        Self::follow(proc)
    }

    /// The caller's file of offsets, for [`TimeNamespace::apply_to_children`]: of a process that is undumpable, only the
    /// host's root may open it.
    pub fn open_offsets(proc: BorrowedFd<'_>) -> Result<OwnedFd, Fault> {
        beneath::writable_own(proc, c"timens_offsets").map_err(|error| error.about(c"/proc/self/timens_offsets"))
    }

    /// Moves the caller to where its children are born.
    pub fn follow(proc: BorrowedFd<'_>) -> Result<(), Fault> {
        let mine = beneath::open_own_namespace(proc, c"time_for_children")?;
        Ok(namespace::join(mine.as_fd(), Kind::Time)?)
    }

    /// Has the caller's children be born in the new namespace.
    pub fn apply_to_children(&self, offsets: BorrowedFd<'_>) -> Result<(), Fault> {
        namespace::unshare(Kinds::NONE.with(Kind::Time))?;
        if !self.offsets.is_empty() {
            let written = file::write(offsets, self.offsets.as_bytes());
            written.map_err(|error| error.about(c"/proc/self/timens_offsets"))?;
        }
        Ok(())
    }
}

impl fmt::Display for TimeNamespace {
    /// `unshare time, offsets boottime 7 0, monotonic 5 0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unshare time")?;
        let mut lead = ", offsets ";
        for line in self.offsets.lines() {
            write!(f, "{lead}{line}")?;
            lead = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    const TIME: Kinds = Kinds::NONE.with(Kind::Time);

    fn offsets(json: &str) -> HashMap<String, LinuxTimeOffset> {
        serde_json::from_str(json).expect("offsets")
    }

    #[test]
    fn offsets_without_a_new_time_namespace_are_an_error() {
        let some = offsets(r#"{"monotonic":{"secs":1}}"#);
        let error = compile(Some(&some), Kinds::NONE).expect_err("no namespace").to_string();
        assert!(error.starts_with("linux.timeOffsets: "), "{error}");
        assert_eq!(compile(None, Kinds::NONE).expect("nothing"), None);
    }

    #[test]
    fn an_unknown_clock_and_too_many_nanoseconds_are_errors() {
        let error = |json: &str| compile(Some(&offsets(json)), TIME).unwrap_err().to_string();
        assert!(error(r#"{"realtime":{"secs":1}}"#).starts_with("linux.timeOffsets: unknown clock \"realtime\""));
        let words = "linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more";
        assert_eq!(error(r#"{"boottime":{"nanosecs":1000000000}}"#), words);
        let most = compile(Some(&offsets(r#"{"boottime":{"nanosecs":999999999}}"#)), TIME).expect("less than a second");
        assert_eq!(most.expect("a new one").offsets, "boottime 0 999999999\n");
    }

    #[test]
    fn the_clocks_of_the_process_itself_are_shifted() {
        in_a_child(|| {
            let json = r#"{"boottime":{"secs":1000000,"nanosecs":5},"monotonic":{"secs":7}}"#;
            let namespace = compile(Some(&offsets(json)), TIME)?.expect("a new one");
            assert_eq!(namespace.to_string(), "unshare time, offsets boottime 1000000 5, monotonic 7 0");
            let uptime = || -> Result<f64> {
                let text = std::fs::read_to_string("/proc/uptime")?;
                Ok(text.split(' ').next().unwrap_or_default().parse()?)
            };
            let before = uptime()?;
            let proc = std::fs::File::open("/proc")?;
            heap_free(|| namespace.apply(proc.as_fd()))?;
            assert!((uptime()? - before - 1e6).abs() < 5.0, "{before} then {}", uptime()?);
            assert_eq!(
                std::fs::read_link("/proc/self/ns/time")?,
                std::fs::read_link("/proc/self/ns/time_for_children")?
            );
            Ok(())
        });
    }

    #[test]
    fn the_children_of_the_process_are_born_with_the_offsets() {
        in_a_child(|| {
            let json = r#"{"boottime":{"secs":1000000,"nanosecs":5}}"#;
            let namespace = compile(Some(&offsets(json)), TIME)?.expect("a new one");
            let proc = std::fs::File::open("/proc")?;
            let file = TimeNamespace::open_offsets(proc.as_fd())?;
            heap_free(|| namespace.apply_to_children(file.as_fd()))?;
            let link = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}"));
            assert_ne!(link("time")?, link("time_for_children")?);
            let text = std::fs::read_to_string("/proc/self/timens_offsets")?;
            let is_written = |line: &str| line.split_whitespace().eq(["boottime", "1000000", "5"]);
            assert!(text.lines().any(is_written), "{text}");
            Ok(())
        });
    }
}
