//! A command line that makes no sense, in one line; and `--help`, which clap treats as such.

use std::ffi::{OsStr, OsString};

use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use super::commands::{ALL_COMMANDS, Cli};
use super::global::JOURNAL;
use super::output::{fail, finish, print, status_of_failure};
use crate::log::{Format, Level, Log};

/// runc's exit status for a command that it does not have.
const UNKNOWN_COMMAND: u8 = 3;

/// Prints the help or the error, and returns the exit status.
pub fn report(error: &Error, arguments: &[OsString]) -> u8 {
    let log = log(arguments);
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let text = error.render().to_string();
            finish(&log, "help", print(&if text.contains(ALL_COMMANDS) { help() } else { text }))
        }
        ErrorKind::InvalidSubcommand => {
            fail(&log, "usage", &anyhow!("{}", line(error, arguments)));
            UNKNOWN_COMMAND
        }
        _ => {
            fail(&log, "usage", &anyhow!("{}", line(error, arguments)));
            command_of(&error.render().to_string(), arguments).map_or(1, |command| status_of_failure(&command))
        }
    }
}

/// The help of the program as a whole. The commands' own lines are there only once all commands are built.
pub fn help() -> String {
    let mut program = Cli::command();
    program.build();
    program.render_long_help().to_string()
}

/// What clap says up to its first empty line, and where the help is.
fn line(error: &Error, arguments: &[OsString]) -> String {
    if let (ErrorKind::InvalidSubcommand, Some(name)) = (error.kind(), text(error, ContextKind::InvalidSubcommand)) {
        return format!("unknown command '{name}' (see 'ocirt --help')");
    }
    let rendered = error.render().to_string();
    let what = rendered.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    match command_of(&rendered, arguments) {
        Some(command) => match text(error, ContextKind::InvalidArg).and_then(|flag| habit(&command, flag)) {
            Some(meant) => format!("{command}: {what} ({meant}; see 'ocirt {command} --help')"),
            None => format!("{command}: {what} (see 'ocirt {command} --help')"),
        },
        None => format!("{what} (see 'ocirt --help')"),
    }
}

/// What is meant by a flag that other programs have in this place.
fn habit(command: &str, flag: &str) -> Option<String> {
    if flag.starts_with("--") {
        let name = flag.split('=').next().unwrap_or(flag);
        let is_global =
            Cli::command().get_arguments().any(|global| Some(name) == global.get_long().map(long).as_deref());
        return is_global.then(|| format!("{name} comes before the command: ocirt {name} … {command} …"));
    }
    match (command, flag) {
        ("kill", _) => Some("the signal comes last: ocirt kill CONTAINER_ID SIGNAL".to_owned()),
        ("exec", "-i") => Some("standard input is always passed on; -t gives a terminal".to_owned()),
        _ => None,
    }
}

fn long(name: &str) -> String {
    format!("--{name}")
}

/// The command that an error, as clap words it, is about.
fn command_of(rendered: &str, arguments: &[OsString]) -> Option<String> {
    // "Usage: ocirt create [OPTIONS] <CONTAINER_ID>"
    let usage = rendered.lines().find_map(|line| line.strip_prefix("Usage: ocirt "));
    let command = match usage {
        Some(usage) => usage.split(' ').next().filter(|word| word.starts_with(char::is_lowercase)),
        // Not every error has its usage; a command's name is then the first word that is one.
        None => arguments.iter().filter_map(|word| word.to_str()).find(|word| is_command(word)),
    };
    command.map(str::to_owned)
}

fn is_command(word: &str) -> bool {
    Cli::command().find_subcommand(word).is_some()
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// The log as far as the arguments make sense: engines look for errors there, not on stderr.
fn log(arguments: &[OsString]) -> Log {
    let Ok(matches) = Cli::command().ignore_errors(true).try_get_matches_from(arguments) else { return Log::console() };
    let place = matches.get_one::<OsString>("log").map(OsString::as_os_str);
    let place = if matches.get_one::<bool>("systemd_log") == Some(&true) { Some(OsStr::new(JOURNAL)) } else { place };
    let format = matches.get_one::<String>("log_format").and_then(|name| Format::parse(name).ok());
    Log::open(place, format.unwrap_or(Format::Text), Level::Info).unwrap_or_else(|_| Log::console())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn error_of(words: &str) -> String {
        let arguments = crate::cli::args::normalise(words.split(' ').map(OsString::from).collect()).unwrap().words;
        line(&Cli::try_parse_from(&arguments).err().unwrap(), &arguments)
    }

    #[test]
    fn the_help_lists_every_command_with_what_it_does() {
        let help = help();
        assert!(help.contains(ALL_COMMANDS));
        assert!(help.contains("  kill        Send a signal to the process of a container\n"), "{help}");
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        assert_eq!(commands.clone().count(), Cli::command().get_subcommands().count() + 1, "and help");
        assert!(commands.clone().all(|line| line.split_whitespace().count() > 2));
    }

    #[test]
    fn a_habit_of_other_programs_is_told_the_right_call() {
        let kill = "(the signal comes last: ocirt kill CONTAINER_ID SIGNAL; see 'ocirt kill --help')";
        assert_eq!(error_of("ocirt kill -9 w"), format!("kill: unexpected argument '-9' found {kill}"));
        assert_eq!(error_of("ocirt kill -KILL w"), format!("kill: unexpected argument '-K' found {kill}"));
        let exec = "(standard input is always passed on; -t gives a terminal; see 'ocirt exec --help')";
        assert_eq!(error_of("ocirt exec -it w sh"), format!("exec: unexpected argument '-i' found {exec}"));
        let global = "(--root comes before the command: ocirt --root … create …; see 'ocirt create --help')";
        assert_eq!(
            error_of("ocirt create --root /x w"),
            format!("create: unexpected argument '--root' found {global}")
        );
        assert!(!error_of("ocirt create --nope w").contains("comes before"));
    }

    #[test]
    fn an_error_of_usage_is_one_line() {
        assert_eq!(error_of("ocirt nosuch"), "unknown command 'nosuch' (see 'ocirt --help')");
        assert_eq!(error_of("ocirt nope --help"), "unknown command 'nope' (see 'ocirt --help')");
        assert_eq!(
            error_of("ocirt create"),
            "create: the following required arguments were not provided: <CONTAINER_ID> (see 'ocirt create --help')"
        );
        assert_eq!(error_of("ocirt state a b"), "state: unexpected argument 'b' found (see 'ocirt state --help')");
        assert_eq!(
            error_of("ocirt state --foo a"),
            "state: unexpected argument '--foo' found (see 'ocirt state --help')"
        );
        assert_eq!(error_of("ocirt --foo state a"), "unexpected argument '--foo' found (see 'ocirt --help')");
        assert_eq!(
            error_of("ocirt create --bundle"),
            "create: a value is required for '--bundle <DIR>' but none was supplied (see 'ocirt create --help')"
        );
        assert_eq!(
            error_of("ocirt run --preserve-fds -1 x"),
            "run: invalid value '-1' for '--preserve-fds <N>': -1 is not in 0..=4294967295 (see 'ocirt run --help')"
        );
    }
}
