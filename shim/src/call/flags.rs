//! The command line, in the syntax of Go's package flag: one dash or two, `-x value` or `-x=value`, `--` ends the
//! flags, and so does the first word that is none. That word is the action.

use super::{Refused, refuse};
use crate::api::id;

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Begin to serve a container's group, or find who does.
    Start(Caller),
    /// Remove what is left of a container whose shim has gone.
    Delete(Caller),
    /// What the runtime can do.
    Info,
    Version,
}

/// Who calls, and about what.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Caller {
    pub namespace: String,
    pub id: String,
    /// containerd's socket (gRPC).
    pub address: String,
    /// With `delete` only.
    pub bundle: String,
    pub debug: bool,
}

/// Flags that have a value, and are known. The last three concern ways of Go's shim that ours does not have: its
/// daemon's own command line, and `containerd publish`, which no shim has called since 1.3.
const WITH_VALUE: [&str; 7] = ["namespace", "id", "address", "bundle", "publish-binary", "socket", "debug-socket"];

const ACTIONS: [&str; 2] = ["start", "delete"];

/// Reads the arguments behind the program's name. Unknown flags are skipped, since a later containerd may have more.
pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Call, Refused> {
    let mut words = arguments.into_iter().peekable();
    let mut caller = Caller::default();
    let (mut info, mut version) = (false, false);
    let mut action = None;
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|_| word != "-") else {
            action = Some(word);
            break;
        };
        if flag.is_empty() {
            action = words.next();
            break;
        }
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        match name {
            "debug" => caller.debug = switch(name, value)?,
            "info" => info = switch(name, value)?,
            "v" | "version" => version = switch(name, value)?,
            _ if WITH_VALUE.contains(&name) => {
                let Some(value) = value.or_else(|| words.next()) else { refuse!("flag -{name}: no value") };
                caller.set(name, value);
            }
            // Whether it has a value is not known: a word that is neither flag nor action is one.
            _ if value.is_none() => {
                words.next_if(|next| !next.starts_with('-') && !ACTIONS.contains(next));
            }
            _ => {}
        }
    }
    match action {
        _ if version => Ok(Call::Version),
        _ if info => Ok(Call::Info),
        Some("start") => Ok(Call::Start(caller.checked()?)),
        Some("delete") => Ok(Call::Delete(caller.checked()?)),
        Some(other) => refuse!("action {other:?}: neither start nor delete"),
        None => refuse!("no action: containerd calls this program with start, delete or -info"),
    }
}

/// `strconv.ParseBool`.
fn switch(name: &str, value: Option<&str>) -> Result<bool, Refused> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => refuse!("flag -{name}: {other:?} is neither true nor false"),
    }
}

impl Caller {
    fn set(&mut self, name: &str, value: &str) {
        let field = match name {
            "namespace" => &mut self.namespace,
            "id" => &mut self.id,
            "address" => &mut self.address,
            "bundle" => &mut self.bundle,
            _ => return,
        };
        value.clone_into(field);
    }

    fn checked(self) -> Result<Self, Refused> {
        id::check("namespace", &self.namespace).map_err(Refused)?;
        id::check("id", &self.id).map_err(Refused)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Call, Refused> {
        parse(line.split_whitespace())
    }

    fn caller() -> Caller {
        Caller {
            namespace: "k8s.io".to_owned(),
            id: "c1".to_owned(),
            address: "/run/c.sock".to_owned(),
            ..Caller::default()
        }
    }

    #[test]
    fn what_containerd_says_is_read() {
        let line = "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 start";
        assert_eq!(parse_line(line), Ok(Call::Start(caller())));
        let line = "-namespace k8s.io -address /run/c.sock -publish-binary /c -id c1 -bundle /b -debug delete";
        let expected = Caller { bundle: "/b".to_owned(), debug: true, ..caller() };
        assert_eq!(parse_line(line), Ok(Call::Delete(expected)));
        assert_eq!(parse_line("-info"), Ok(Call::Info));
        assert_eq!(parse_line("-v"), Ok(Call::Version));
    }

    #[test]
    fn all_spellings_of_go_are_the_same() {
        for line in [
            "-namespace=k8s.io --address /run/c.sock --id=c1 start",
            "--namespace k8s.io -address=/run/c.sock -id c1 -debug=false -- start",
            "-namespace x -namespace k8s.io -address /run/c.sock -id c1 start -id other",
        ] {
            assert_eq!(parse_line(line), Ok(Call::Start(caller())), "{line}");
        }
        // A value may look like a flag, or be empty.
        let Ok(Call::Start(found)) = parse(["-id", "c1", "-namespace", "n", "-address", "-id", "-bundle=", "start"])
        else {
            panic!()
        };
        assert_eq!((found.address.as_str(), found.bundle.as_str()), ("-id", ""));
    }

    #[test]
    fn unknown_flags_are_skipped_with_and_without_a_value() {
        for unknown in ["-new", "-new=value", "-new value", "--new=", "-another -new 5"] {
            let line = format!("{unknown} -namespace k8s.io -address /run/c.sock {unknown} -id c1 {unknown} start");
            assert_eq!(parse_line(&line), Ok(Call::Start(caller())), "{line}");
        }
    }

    #[test]
    fn a_wrong_call_is_an_error_that_names_it() {
        let table = [
            ("", "no action: containerd calls this program with start, delete or -info"),
            ("-namespace n -id c", "no action: containerd calls this program with start, delete or -info"),
            ("-namespace n -id c stop", "action \"stop\": neither start nor delete"),
            ("-namespace n -id", "flag -id: no value"),
            ("-debug=maybe start", "flag -debug: \"maybe\" is neither true nor false"),
            ("-id c start", "namespace: empty"),
            ("-namespace n delete", "id: empty"),
            (
                "-namespace n -id ../x start",
                "id \"../x\": not of letters and digits, with '.', '_' or '-' between them",
            ),
            (
                "-namespace .. -id c start",
                "namespace \"..\": not of letters and digits, with '.', '_' or '-' between them",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(parse_line(line), Err(Refused(expected.to_owned())), "{line}");
        }
        let long = "x".repeat(129);
        assert_eq!(
            parse(["-namespace", "n", "-id", &long, "start"]).unwrap_err().0,
            "id: 129 characters: more than 76"
        );
    }
}
