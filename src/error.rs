//! What an error is about, as types beside its words: the log tells it to programs (`log/facts.rs`), and no text that a
//! hook or a file brings along can choose it.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

use crate::sys::{SysError, Words};

/// A failure of std in the words of all others: the call, and strerror(3) in lower case.
pub fn io_error(call: &'static str, error: &std::io::Error) -> SysError {
    SysError::io(call, error)
}

/// The chain of an error as a line: the only form in which people and engines see one. What std says of a failure has
/// strerror(3)'s words, as all others have.
pub fn one_line(error: &Error) -> String {
    let words = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<std::io::Error>() {
        Some(error) if error.raw_os_error().is_some() => Words(SysError::io("", error).errno).to_string(),
        _ => cause.to_string(),
    };
    error.chain().map(words).collect::<Vec<_>>().join(": ")
}

/// Text that a container may have chosen, such as a file's name, for people: it cannot move the terminal's cursor.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { printable.extend(c.escape_default()) } else { printable.push(c) }
    }
    printable
}

/// A place in config.json, `linux.namespaces[2].path`, and what is wrong with it, where the cause does not say. As context
/// or as cause of an error; made by [`field!`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    place: Cow<'static, str>,
    what: Option<String>,
    call: Option<SysError>,
    path: Option<PathBuf>,
}

impl Field {
    pub fn new(place: impl Into<Cow<'static, str>>) -> Self {
        Self { place: place.into(), what: None, call: None, path: None }
    }

    /// The same place with what is wrong there.
    pub fn is(self, what: impl Into<String>) -> Self {
        Self { what: Some(what.into()), ..self }
    }

    /// The same with more words behind the others.
    pub fn and(self, more: fmt::Arguments) -> Self {
        Self { what: Some(format!("{}{more}", self.what.unwrap_or_default())), ..self }
    }

    /// The same with the call that failed, of which `what` has the reason.
    pub fn by(self, call: SysError) -> Self {
        Self { call: Some(call), ..self }
    }

    /// The same with the file that `what` is about.
    pub fn about(self, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    pub fn call(&self) -> Option<SysError> {
        self.call
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// The outermost place that `error` is about.
    pub fn of(error: &Error) -> Option<&Self> {
        error.downcast_ref()
    }
}

impl From<fmt::Arguments<'_>> for Field {
    fn from(place: fmt::Arguments) -> Self {
        Self::new(place.as_str().map_or_else(|| Cow::Owned(place.to_string()), Cow::Borrowed))
    }
}

impl fmt::Display for Field {
    /// `linux.namespaces[2]: duplicate namespace network`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        self.what.iter().try_for_each(|what| write!(f, ": {what}"))
    }
}

impl std::error::Error for Field {}

/// A [`Field`] from a format string: `field!("linux.sysctl.{key}")`, or with what is wrong there:
/// `field!("linux.sysctl.{key}"; "given {} times", count)`.
macro_rules! field {
    ($place:literal) => {
        $crate::error::Field::from(format_args!($place))
    };
    ($place:literal; $($what:tt)+) => {
        $crate::error::Field::from(format_args!($place)).is(format!($($what)+))
    };
}

pub(crate) use field;

/// A file that an error is about, and what it is for: `--console-socket`, or nothing that the path does not say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    what: &'static str,
    path: PathBuf,
}

impl About {
    pub fn new(what: &'static str, path: &Path) -> Self {
        Self { what, path: path.to_owned() }
    }

    pub fn file(path: &Path) -> Self {
        Self::new("", path)
    }

    /// The outermost file that `error` is about.
    pub fn of(error: &Error) -> Option<&Path> {
        let own = error.downcast_ref().map(|Self { path, .. }| path.as_path());
        own.or_else(|| Field::of(error)?.path.as_deref())
    }
}

impl fmt::Display for About {
    /// `--log "/run/log"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            "" => write!(f, "{:?}", self.path),
            what => write!(f, "{what} {:?}", self.path),
        }
    }
}

/// What is found wrong: the first, which ends the search, or all of it.
#[derive(Debug)]
pub struct Faults {
    wanted: Wanted,
    found: Vec<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    First,
    All,
}

impl Faults {
    /// The search ends at the first, as its error.
    pub fn first() -> Self {
        Self { wanted: Wanted::First, found: Vec::new() }
    }

    /// The search goes on, and what is wrong is kept.
    pub fn all() -> Self {
        Self { wanted: Wanted::All, found: Vec::new() }
    }

    /// What `result` has. Of an error nothing: it is kept, or returned where it ends the search.
    pub fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match (result, self.wanted) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Wanted::First) => Err(error),
            (Err(error), Wanted::All) => {
                self.found.push(error);
                Ok(None)
            }
        }
    }

    /// The same of each of `results`: those that are there.
    pub fn keep_each<T>(&mut self, results: impl IntoIterator<Item = Result<T>>) -> Result<Vec<T>> {
        results.into_iter().filter_map(|result| self.keep(result).transpose()).collect()
    }

    pub fn into_found(self) -> Vec<Error> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow, bail, ensure};

    #[test]
    fn a_field_is_found_wherever_it_is_in_the_chain_and_the_outermost_counts() {
        let key = "a.b";
        let cause = || -> anyhow::Result<()> { bail!(field!("linux.sysctl.{key}"; "given {} times", 2)) };
        let error = cause().context("of the bundle").context("create web1").unwrap_err();
        assert_eq!(format!("{error:#}"), "create web1: of the bundle: linux.sysctl.a.b: given 2 times");
        assert_eq!(Field::of(&error).unwrap().place(), "linux.sysctl.a.b");
        let outer = error.context(field!("process.args[0]"));
        assert_eq!(Field::of(&outer).unwrap().place(), "process.args[0]");
    }

    #[test]
    fn words_choose_nothing() {
        let said = "container does not exist: mounts[3]: \"/etc/passwd\": no such file or directory";
        let error = anyhow!("{said}").context(said).context("hooks.prestart[0]: ");
        assert_eq!((Field::of(&error), About::of(&error)), (None, None));
    }

    #[test]
    fn a_field_can_be_a_cause_a_context_and_the_word_of_an_ensure() {
        let missing = || -> anyhow::Result<()> { None.context(field!("root"; "missing")) };
        let refused = || -> anyhow::Result<()> {
            ensure!(key_is_good(), field!("root"; "missing"));
            Ok(())
        };
        fn key_is_good() -> bool {
            false
        }
        for error in [missing().unwrap_err(), refused().unwrap_err(), Error::from(field!("root"; "missing"))] {
            assert_eq!((error.to_string().as_str(), Field::of(&error).unwrap().place()), ("root: missing", "root"));
        }
    }

    #[test]
    fn the_first_fault_ends_the_search_or_all_are_kept() {
        let results = || [Ok(1), Err(anyhow!("a")), Ok(2), Err(anyhow!("b"))];
        let mut all = Faults::all();
        assert_eq!(all.keep_each(results()).unwrap(), [1, 2]);
        assert_eq!(all.into_found().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b"]);
        let mut first = Faults::first();
        assert_eq!(first.keep_each(results()).unwrap_err().to_string(), "a");
        assert!(first.into_found().is_empty());
    }

    #[test]
    fn a_file_comes_quoted() {
        let error = anyhow!("refused").context(About::new("--log", Path::new("/run/l"))).context("create");
        assert_eq!(format!("{error:#}"), "create: --log \"/run/l\": refused");
        assert_eq!(About::of(&error), Some(Path::new("/run/l")));
        assert_eq!(About::file(Path::new("/x")).to_string(), "\"/x\"");
    }
}
