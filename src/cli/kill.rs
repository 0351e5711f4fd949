//! `ocirt kill`.

use anyhow::{Context, Result, bail};
use clap::Args;

use super::select;
use crate::lifecycle::{self, Host, Signal};

/// Send a signal to the process of a container
///
/// The signal is a number or a name, with or without SIG, in any case: 15, TERM, SIGTERM, RTMIN+1. The default is TERM.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment, override_usage = "ocirt kill [OPTIONS] CONTAINER_ID [SIGNAL]")]
pub struct Kill {
    /// Send the signal to every process of the container
    #[arg(short, long)]
    all: bool,

    /// CONTAINER_ID is a regular expression; all containers that match get the signal
    #[arg(short, long)]
    regex: bool,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Signal to send
    #[arg(value_name = "SIGNAL", num_args = 0..=2, allow_hyphen_values = true)]
    signal: Vec<String>,
}

impl Kill {
    pub fn execute(self, host: &Host) -> Result<()> {
        let (signal, all) = signal_and_all(&self.signal).context("kill")?;
        let all = all || self.all;
        select::each("kill", host, &self.id, self.regex, |id| lifecycle::kill(host, id, signal, all))
    }
}

/// The words after the id: a signal, and `--all`, which some callers write last.
fn signal_and_all(words: &[String]) -> Result<(Signal, bool)> {
    let (flags, signals): (Vec<_>, Vec<_>) = words.iter().partition(|word| matches!(word.as_str(), "--all" | "-a"));
    match signals.as_slice() {
        [] => Ok((Signal(15), !flags.is_empty())),
        [signal] => Ok((parse(signal)?, !flags.is_empty())),
        [_, extra, ..] => bail!("unexpected argument '{extra}'"),
    }
}

/// signal(7): the numbers that all of Linux's architectures share but alpha, mips, parisc and sparc.
const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

/// The first real-time signal that the C libraries leave to programs, as kill(1) counts them.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

fn parse(text: &str) -> Result<Signal> {
    match number(text).filter(|number| (0..=RTMAX).contains(number)) {
        Some(number) => Ok(Signal(number)),
        None => bail!("unknown signal {text:?}"),
    }
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    // Beyond these two the offset would name a signal of the C library's, or none.
    let offset = |text: &str| text.parse::<u8>().ok().map(i32::from).filter(|offset| *offset <= RTMAX - RTMIN);
    match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(above), _) => Some(RTMIN + offset(above)?),
        (_, Some(below)) => Some(RTMAX - offset(below)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_name_or_a_number() {
        for text in ["15", "TERM", "SIGTERM", "term", "sigterm", "SigTerm"] {
            assert_eq!(parse(text).unwrap(), Signal(15), "{text}");
        }
        for (text, expected) in [("0", 0), ("64", 64), ("RTMIN", 34), ("SIGRTMIN+1", 35), ("rtmax-3", 61), ("IOT", 6)] {
            assert_eq!(parse(text).unwrap(), Signal(expected), "{text}");
        }
    }

    #[test]
    fn every_other_signal_is_unknown() {
        for text in
            ["FOO", "", "SIG", "65", "-1", "-9", "9x", "99999999999", "RTMIN+31", "RTMIN-1", "RTMIN+", "SIGSIGTERM"]
        {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("unknown signal \"{text}\""));
        }
    }

    #[test]
    fn all_may_come_last() {
        let words = |words: &[&str]| signal_and_all(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&[]).unwrap(), (Signal(15), false));
        assert_eq!(words(&["9", "--all"]).unwrap(), (Signal(9), true));
        assert_eq!(words(&["-a", "KILL"]).unwrap(), (Signal(9), true));
        assert_eq!(words(&["9", "10"]).unwrap_err().to_string(), "unexpected argument '10'");
    }

    #[test]
    fn the_table_has_every_standard_signal() {
        assert!((1..=31).all(|number| NAMES.iter().any(|(_, other)| *other == number)));
    }
}
