//! Lines for containerd's log, in the form that it has itself. The log is a FIFO that may be full or have no reader: a
//! line that cannot be written now is lost, and nobody waits (containerd #4906).

use std::io::Write;

use containerd_shim_ocirt::api::known::Timestamp;
use containerd_shim_ocirt::call::log;

/// Writes a line that somebody has asked for.
pub fn info(words: &str) {
    write(log::Level::Info, words);
}

/// Writes a warning to standard error, which is the FIFO.
pub fn warn(words: &str) {
    write(log::Level::Warning, words);
}

/// Writes an error after which the shim ends.
pub fn error(words: &str) {
    write(log::Level::Error, words);
}

fn write(level: log::Level, words: &str) {
    let Timestamp { seconds, nanos } = crate::delete::now();
    // Without a reader, or without room, it is lost.
    let _ = std::io::stderr().write_all(log::line(seconds, nanos, level, words).as_bytes());
}
