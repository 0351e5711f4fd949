//! What Go's flag package accepts and clap does not, written as clap wants it: `-bundle DIR` for `--bundle DIR`,
//! `--force=true` for `--force`, and nothing after the first argument of `exec`, `kill` and `ps` is a flag.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, bail};

/// What follows a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    Nothing,
    Value,
    /// A value behind an equals sign, or none.
    Perhaps,
}

use Takes::{Nothing, Perhaps, Value};

/// Flags before the command.
const GLOBAL: [(&str, Takes); 14] = [
    ("cgroup-manager", Value),
    ("criu", Value),
    ("debug", Nothing),
    ("floor", Value),
    ("help", Nothing),
    ("log", Value),
    ("log-format", Value),
    ("log-level", Value),
    ("root", Value),
    ("rootless", Value),
    ("systemd-cgroup", Nothing),
    ("systemd-log", Nothing),
    ("trace", Value),
    ("version", Nothing),
];

/// Flags after the command. No two commands disagree on a long one.
const COMMANDS: [(&str, Takes); 83] = [
    ("additional-gids", Value),
    ("all", Nothing),
    ("all-roots", Nothing),
    ("apparmor", Value),
    ("as", Value),
    ("auto-dedup", Nothing),
    ("blkio-weight", Value),
    ("bundle", Value),
    ("cap", Value),
    ("cgroup", Value),
    ("config", Value),
    ("console-socket", Value),
    ("container", Value),
    ("cpu-burst", Value),
    ("cpu-idle", Value),
    ("cpu-period", Value),
    ("cpu-quota", Value),
    ("cpu-rt-period", Value),
    ("cpu-rt-runtime", Value),
    ("cpu-share", Value),
    ("cpuset-cpus", Value),
    ("cpuset-mems", Value),
    ("cwd", Value),
    ("detach", Nothing),
    ("dry-run", Nothing),
    ("empty-ns", Value),
    ("env", Value),
    ("ext-unix-sk", Nothing),
    ("file", Value),
    ("file-locks", Nothing),
    ("force", Nothing),
    ("format", Value),
    ("grace", Value),
    ("help", Nothing),
    ("id", Value),
    ("ignore-paused", Nothing),
    ("image-path", Value),
    ("interval", Value),
    ("keep", Nothing),
    ("kernel-memory", Value),
    ("kernel-memory-tcp", Value),
    ("l3-cache-schema", Value),
    ("lazy-pages", Nothing),
    ("leave-running", Nothing),
    ("link-remap", Nothing),
    ("lsm-mount-context", Value),
    ("lsm-profile", Value),
    ("manage-cgroups-mode", Value),
    ("mem-bw-schema", Value),
    ("memory", Value),
    ("memory-reservation", Value),
    ("memory-swap", Value),
    ("network-lock", Value),
    ("no-new-keyring", Nothing),
    ("no-new-privs", Nothing),
    ("no-pivot", Nothing),
    ("no-subreaper", Nothing),
    ("page-server", Value),
    ("parent-path", Value),
    ("pid-file", Value),
    ("pidfd-socket", Value),
    ("pids-limit", Value),
    ("pre-dump", Nothing),
    ("preserve-fds", Value),
    ("process", Value),
    ("process-label", Value),
    ("quiet", Nothing),
    ("reclaim", Perhaps),
    ("reclaim-timeout", Value),
    ("regex", Nothing),
    ("resources", Value),
    ("rootless", Nothing),
    ("shell-job", Nothing),
    ("stats", Nothing),
    ("status-fd", Value),
    ("svg", Nothing),
    ("tcp-close", Nothing),
    ("tcp-established", Nothing),
    ("tcp-skip-in-flight", Nothing),
    ("timeout", Value),
    ("tty", Nothing),
    ("user", Value),
    ("work-path", Value),
];

/// A command line.
#[derive(PartialEq, Eq, Debug)]
pub struct CommandLine {
    /// The program's name first, in clap's spelling.
    pub words: Vec<OsString>,
    /// The one of the words that is the command, as clap finds it.
    pub command: Option<OsString>,
}

/// The context of an error is the command, if there is one.
pub fn normalise(arguments: Vec<OsString>) -> Result<CommandLine> {
    let mut arguments = arguments.into_iter();
    let mut out: Vec<OsString> = arguments.next().into_iter().collect();
    let mut command: Option<OsString> = None;
    let mut level = out.len(); // where the flags of the command begin, or of what comes before it
    while let Some(argument) = arguments.next() {
        match Word::of(&argument) {
            Word::Argument if command.is_none() => {
                command = Some(argument.clone());
                out.push(argument);
                level = out.len();
            }
            Word::Argument if stops_parsing(command.as_deref()) => {
                out.extend(["--".into(), argument]);
                break;
            }
            Word::End => {
                out.push(argument);
                break;
            }
            Word::Argument => out.push(argument),
            Word::Short(letter) => {
                out.push(argument.clone());
                if short_takes_value(letter, command.as_deref()) {
                    out.extend(arguments.next());
                }
            }
            Word::Long { name, value } => {
                let flags = if command.is_some() { COMMANDS.as_slice() } else { GLOBAL.as_slice() };
                match flags.iter().find(|(flag, _)| flag.as_bytes() == name) {
                    Some((flag, Nothing)) => {
                        let switched = switch(&mut out, level, flag, value);
                        // The command comes first in the error, as in all others; without one, there is nothing to add.
                        match &command {
                            Some(command) => switched.with_context(|| command.display().to_string())?,
                            None => switched?,
                        }
                    }
                    Some((flag, Value)) => {
                        out.push(format!("--{flag}").into());
                        out.extend(value.map(OsStringExt::from_vec).or_else(|| arguments.next()));
                    }
                    Some((flag, Perhaps)) => out.push(with_value(flag, value)),
                    None => out.push(argument.clone()),
                }
            }
        }
    }
    out.extend(arguments);
    Ok(CommandLine { words: out, command })
}

enum Word<'a> {
    /// No flag.
    Argument,
    /// `--`: no flags from here on.
    End,
    /// `-b`, alone.
    Short(u8),
    /// `--bundle`, `-bundle`, `--bundle=x`.
    Long { name: &'a [u8], value: Option<Vec<u8>> },
}

impl<'a> Word<'a> {
    fn of(argument: &'a OsStr) -> Self {
        match argument.as_bytes() {
            b"--" => Self::End,
            [b'-', letter] if *letter != b'-' => Self::Short(*letter),
            [b'-', b'-', text @ ..] | [b'-', text @ ..] if !text.is_empty() => {
                let mut halves = text.splitn(2, |byte| *byte == b'=');
                let name = halves.next().unwrap_or_default();
                Self::Long { name, value: halves.next().map(<[u8]>::to_vec) }
            }
            _ => Self::Argument,
        }
    }
}

fn stops_parsing(command: Option<&OsStr>) -> bool {
    command.is_some_and(|command| command == "exec" || command == "kill" || command == "ps")
}

fn short_takes_value(letter: u8, command: Option<&OsStr>) -> bool {
    let Some(command) = command else { return matches!(letter, b'l' | b'r') };
    match letter {
        b'b' => true,
        b'f' => command != "delete",
        b'r' => command == "update",
        b'c' | b'p' => ["create", "run", "plan", "exec"].iter().any(|name| command == *name),
        b'e' | b'g' | b'u' => command == "exec",
        _ => false,
    }
}

fn with_value(flag: &str, value: Option<Vec<u8>>) -> OsString {
    let value = value.map(|value| [b"=", value.as_slice()].concat());
    let spelling = [b"--", flag.as_bytes(), value.as_deref().unwrap_or_default()].concat();
    OsString::from_vec(spelling)
}

/// Go's spellings of a boolean, strconv.ParseBool; the last one given counts.
fn switch(out: &mut Vec<OsString>, level: usize, flag: &str, value: Option<Vec<u8>>) -> Result<()> {
    let spelling = OsString::from(format!("--{flag}"));
    let flags = out.split_off(level);
    out.extend(flags.into_iter().filter(|argument| *argument != spelling));
    match value.as_deref() {
        None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => out.push(spelling),
        Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => {}
        Some(other) => bail!("invalid boolean value \"{}\" for -{flag}", other.escape_ascii()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        normalise(arguments).unwrap().words.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_command_is_told_from_values_and_other_words() {
        let command = |line: &str| normalise(line.split(' ').map(OsString::from).collect()).unwrap().command;
        for (line, expected) in [
            ("o state run", "state"),
            ("o --root run state exec", "state"),
            ("o --root=run -l create kill x", "kill"),
            ("o --debug run x", "run"),
            ("o --rootless auto exec x run", "exec"),
            ("o -s -r /r create --bundle exec x", "create"),
        ] {
            assert_eq!(command(line), Some(expected.into()), "{line}");
        }
        for line in ["o", "o --root run", "o --version", "o -- run x"] {
            assert_eq!(command(line), None, "{line}");
        }
    }

    #[test]
    fn a_long_flag_may_have_one_dash() {
        assert_eq!(normal("o restore -no-subreaper x"), "o restore --no-subreaper x");
        assert_eq!(normal("o -root=/r -debug state x"), "o --root /r --debug state x");
        assert_eq!(normal("o create -bundle -b x"), "o create --bundle -b x");
        assert_eq!(normal("o -r /r -s -l /l kill -r x"), "o -r /r -s -l /l kill -r -- x");
    }

    #[test]
    fn a_value_may_follow_an_equals_sign() {
        assert_eq!(normal("o --log=a=b list --format=json"), "o --log a=b list --format json");
        assert_eq!(normal("o --log= list"), "o --log  list");
    }

    #[test]
    fn a_switch_may_have_a_value_and_the_last_one_counts() {
        assert_eq!(normal("o --systemd-cgroup=true delete --force=1 x"), "o --systemd-cgroup delete --force x");
        assert_eq!(normal("o --systemd-cgroup=false delete --force --force=F x"), "o delete x");
        assert_eq!(normal("o checkpoint --force --force x"), "o checkpoint --force x");
        let error = normalise(["o", "--debug=maybe"].map(OsString::from).to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "invalid boolean value \"maybe\" for -debug");
    }

    #[test]
    fn a_value_that_need_not_be_there_follows_an_equals_sign() {
        assert_eq!(normal("o pause --reclaim x"), "o pause --reclaim x");
        assert_eq!(normal("o pause -reclaim=1m x"), "o pause --reclaim=1m x");
    }

    #[test]
    fn rootless_has_a_value_before_the_command_and_none_after_it() {
        assert_eq!(normal("o --rootless auto spec --rootless"), "o --rootless auto spec --rootless");
        assert_eq!(normal("o --rootless=true list"), "o --rootless true list");
    }

    #[test]
    fn kill_and_ps_have_no_flags_after_their_first_argument() {
        assert_eq!(normal("o kill --all x -9"), "o kill --all -- x -9");
        assert_eq!(normal("o ps -f table x -o pid --force=x"), "o ps -f table -- x -o pid --force=x");
        assert_eq!(normal("o delete -f x -f"), "o delete -f x -f");
        assert_eq!(normal("o kill -- -x -9"), "o kill -- -x -9");
        assert_eq!(normal("o update -r - x"), "o update -r - x");
        assert_eq!(normal("o update --resources=- x"), "o update --resources - x");
        assert_eq!(normal("o update --memory -1 -cpu-quota=-1 x"), "o update --memory -1 --cpu-quota -1 x");
    }

    #[test]
    fn all_that_follows_the_container_of_exec_is_its_command() {
        assert_eq!(normal("o exec -e A -u 5 -t x sh -c -d"), "o exec -e A -u 5 -t -- x sh -c -d");
        assert_eq!(normal("o exec -env A=b -e -d x -- ls"), "o exec --env A=b -e -d -- x -- ls");
        assert_eq!(normal("o exec --process=F --detach x"), "o exec --process F --detach -- x");
    }

    #[test]
    fn what_is_unknown_is_left_to_clap() {
        assert_eq!(normal("o -x --nope=1 create --nope -fjson -"), "o -x --nope=1 create --nope -fjson -");
    }

    #[test]
    fn the_tables_are_those_of_the_parser() {
        use clap::{ArgAction, CommandFactory};
        let parser = crate::cli::Cli::command();
        let check = |command: &clap::Command, table: &[(&str, Takes)]| {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let takes = match argument.get_action() {
                    ArgAction::Set if argument.get_num_args().is_some_and(|number| number.min_values() == 0) => Perhaps,
                    ArgAction::Set | ArgAction::Append => Value,
                    _ => Nothing,
                };
                let flag = (argument.get_long().unwrap(), takes);
                assert!(table.contains(&flag), "{} {flag:?}", command.get_name());
            }
        };
        check(&parser, &GLOBAL);
        parser.get_subcommands().for_each(|command| check(command, &COMMANDS));
    }
}
