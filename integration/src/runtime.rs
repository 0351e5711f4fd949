//! Calls of the runtime under test, each with a deadline.

mod inherited;

use crate::expected::Release;
use crate::{host, user};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// No call may take longer, on a loaded machine either.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// `RUNTIME`, else `OCIRT`, else the ocirt that was built last, whatever it was built for.
pub fn path() -> PathBuf {
    for name in ["RUNTIME", "OCIRT"] {
        if let Some(path) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            return std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("{name}={path:?}: {error}"));
        }
    }
    let own = std::env::current_exe().expect("own path");
    let target = own.ancestors().nth(4).expect("target directory");
    let triples = target.read_dir().expect("target directory").flatten();
    let built =
        triples.flat_map(|triple| ["release", "debug"].map(|profile| triple.path().join(profile).join("ocirt")));
    let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let newest = built.filter(|path| path.is_file()).max_by_key(modified);
    newest.unwrap_or_else(|| panic!("no ocirt in {}", target.display()))
}

/// The program as whoever calls it in this suite can reach it.
pub fn reachable() -> PathBuf {
    if user::has_suite() { program_of_user() } else { path() }
}

/// The runtime under test where the ordinary user can reach it, owned by root: the checkout may lie in a home directory.
pub fn program_of_user() -> PathBuf {
    let program = host::suite().join("runtime").join(path().file_name().expect("a file"));
    if !program.exists() {
        let directory = program.parent().expect("a directory");
        std::fs::create_dir_all(directory).expect("directory");
        // Tests run side by side.
        let new = directory.join(host::tag());
        std::fs::copy(path(), &new).expect("copy of the runtime");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::rename(new, &program).expect("rename");
    }
    program
}

/// In the user's suite root traces what the user runs: only so do programs with a set-user-ID bit work.
pub fn strace_flags() -> &'static str {
    if user::has_suite() { "-u tester" } else { "" }
}

/// What `--version` begins with, `runc version 1.3.6`: runc, crun or ocirt, and the release.
pub fn ask_kind(runtime: &Path) -> (String, Release) {
    let output = Command::new(runtime).arg("--version").output().expect("runtime --version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or("unknown").to_owned();
    let release = words.nth(1).and_then(Release::parse);
    (kind, release.unwrap_or_else(|| panic!("{}: no release in {text:?}", runtime.display())))
}

/// Which runtime this test process drives.
pub fn kind() -> String {
    std::env::var("OCIRT_SUITE_KIND").unwrap_or_default()
}

/// Waits for `child`; `None` past the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// What a finished call left: exit status (128 + signal), and both outputs.
#[derive(Debug, Clone)]
pub struct Output {
    pub call: String,
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Itself, if the call succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}: {}", self.call, self.stderr);
        self
    }

    /// Itself, if the call failed with exit status 1 and its message contains `words` in any letter case, behind what each
    /// message of this command begins with. Words that every message has are a mistake of the test.
    #[track_caller]
    pub fn fails(self, words: &str) -> Self {
        assert_eq!(self.status, 1, "{}: stdout {:?} stderr {:?}", self.call, self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}: {}", self.call, self.stderr);
        assert!(self.can_lack(words), "{}: {words:?} is in every message, or nearly", self.call);
        let found = self.said().contains(&words.to_lowercase());
        assert!(found, "{}: no {words:?} in {:?}", self.call, self.stderr);
        self
    }

    /// The same where other runtimes have words of their own: of these, the failure alone is asked for.
    #[track_caller]
    pub fn fails_as_ocirt(self, words: &str) -> Self {
        if kind() == "ocirt" {
            return self.fails(words);
        }
        assert_eq!(self.status, 1, "{}: stdout {:?} stderr {:?}", self.call, self.stdout, self.stderr);
        assert!(!self.stderr.trim().is_empty(), "{}: no message", self.call);
        self
    }

    /// What each message of this call begins with: the runtime, the command, and what it is about.
    fn beginning(&self) -> String {
        let (first, last) = (self.call.split(' ').next(), self.call.split(' ').next_back());
        let words = [first, last].map(Option::unwrap_or_default);
        format!("ocirt: {}: {} {}: run failed: level=error msg=", kind(), words[0], words[1]).to_lowercase()
    }

    /// Whether a message may be without `words`.
    fn can_lack(&self, words: &str) -> bool {
        let letters = words.chars().filter(|c| c.is_alphanumeric()).count();
        letters > 2 && !self.beginning().contains(&words.to_lowercase())
    }

    /// Standard error in lower case, without `ocirt: command id: `.
    fn said(&self) -> String {
        let stderr = self.stderr.to_lowercase();
        let command = self.call.split(' ').next().unwrap_or_default();
        let rest = stderr.strip_prefix(&format!("ocirt: {command} ")).and_then(|rest| rest.split_once(": "));
        rest.map_or(stderr.clone(), |(_, rest)| rest.to_owned())
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{}: {error} in {:?}", self.call, self.stdout))
    }

    /// The probe's answers, one a line; text that is not JSON is a string.
    pub fn answers(&self) -> Vec<Value> {
        let value = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        self.stdout.lines().map(value).collect()
    }

    /// The only answer.
    #[track_caller]
    pub fn answer(&self) -> Value {
        let answers = self.answers();
        assert_eq!(answers.len(), 1, "{}: status {} {:?} {:?}", self.call, self.status, self.stdout, self.stderr);
        answers.into_iter().next().unwrap_or(Value::Null)
    }
}

/// A call about to be made: `Call::new(["state", id]).env("A", "b").run()`.
pub struct Call {
    words: Vec<String>,
    global: Vec<String>,
    root: Option<PathBuf>,
    command: Command,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    log: PathBuf,
    as_user: bool,
}

/// Where standard output and error of a call went; `create` leaves both to the container.
pub struct Running {
    pub child: Child,
    call: String,
    log: PathBuf,
}

impl Call {
    pub fn new<Word: Into<String>>(words: impl IntoIterator<Item = Word>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let log = host::place().join(format!("call{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        Call {
            words: words.into_iter().map(Into::into).collect(),
            global: Vec::new(),
            root: Some(host::root()),
            command: Command::new(path()),
            stdin: None,
            stdout: None,
            log,
            as_user: false,
        }
        .as_user(user::has_suite())
    }

    /// Whether the call is the ordinary user's, or root's.
    pub fn as_user(mut self, is_his: bool) -> Self {
        self.as_user = is_his;
        if is_his { self.program(&program_of_user()) } else { self }
    }

    /// More global flags, before the command.
    pub fn global<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.global.extend(words.into_iter().map(String::from));
        self
    }

    /// No `--root`, or another one.
    pub fn root(mut self, root: Option<PathBuf>) -> Self {
        self.root = root;
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn cwd(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Another standard output than a file of the test's.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Another file for the runtime's program, e.g. a link to it.
    pub fn program(mut self, program: &Path) -> Self {
        let environment: Vec<_> = self.command.get_envs().map(|(k, v)| (k.to_owned(), v.map(Into::into))).collect();
        self.command = Command::new(program);
        for (name, value) in environment {
            let value: Option<std::ffi::OsString> = value;
            self.command.env(name, value.unwrap_or_default());
        }
        self
    }

    /// By way of `script`, which has strace(1) run [`reachable`] with [`strace_flags`].
    pub fn traced(mut self, script: &Path) -> Self {
        self.as_user = false;
        self.program(script)
    }

    /// Starts the call and does not wait.
    pub fn spawn(mut self) -> Running {
        if let Some(root) = &self.root {
            self.command.arg("--root").arg(root);
        }
        self.command.args(&self.global).args(&self.words);
        if self.as_user {
            become_user(&mut self.command);
            if self.command.get_envs().all(|(name, _)| name != "XDG_RUNTIME_DIR") {
                self.command.env("XDG_RUNTIME_DIR", user::runtime_directory(host::place()));
            }
        }
        let output = |name: &str| File::create(self.log.with_extension(name)).expect("output file");
        let stdout = self.stdout.take().unwrap_or_else(|| output("out").into());
        self.command.stdin(self.stdin.take().unwrap_or_else(Stdio::null)).stdout(stdout).stderr(output("err"));
        let mut line = format!("{} {:?}", self.log.display(), self.command);
        line.truncate(line.find('\n').unwrap_or(line.len()));
        let calls = File::options().create(true).append(true).open(host::calls_file());
        writeln!(calls.expect("list of calls"), "{line}").expect("list of calls");
        let child = self.command.spawn().expect("runtime");
        Running { child, call: self.words.join(" "), log: self.log }
    }

    /// Makes the call; panics past the deadline.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().finish()
    }
}

/// Behind all else that is done after the fork: what only root may do is done by then. Groups stay.
fn become_user(command: &mut Command) {
    // SAFETY: after the fork, plain system calls without memory.
    unsafe {
        command.pre_exec(|| {
            for (call, id) in [(libc::SYS_setresgid, user::USER), (libc::SYS_setresuid, user::USER)] {
                if libc::syscall(call, id, id, id) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

impl Running {
    /// What the call has printed so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("err")).unwrap_or_default()
    }

    /// Waits for the end; past the deadline kills the call and panics with its name.
    #[track_caller]
    pub fn finish(&mut self) -> Output {
        let Some(status) = wait(&mut self.child, DEADLINE) else {
            host::kill_tree(self.child.id());
            panic!("`{}` did not end within {DEADLINE:?}: {}", self.call, self.stderr());
        };
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Output { call: self.call.clone(), status: code, stdout: self.stdout(), stderr: self.stderr() }
    }

    pub fn log(&self) -> PathBuf {
        self.log.clone()
    }
}

/// `Call::new(words).run()`.
#[track_caller]
pub fn call<const N: usize>(words: [&str; N]) -> Output {
    Call::new(words).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> Output {
        Output { call: "start web1".into(), status: 1, stdout: String::new(), stderr: stderr.into() }
    }

    #[test]
    fn words_that_every_message_has_are_refused() {
        for words in ["", "start", "web1", "Start web1", ": ", "ocirt", "a b"] {
            assert!(!failed("ocirt: start web1: it is gone").can_lack(words), "{words:?}");
        }
        for words in ["start gate", "gone", "web12", "hook"] {
            assert!(failed("").can_lack(words), "{words:?}");
        }
    }

    #[test]
    fn the_words_are_looked_for_behind_the_commands_own() {
        assert_eq!(failed("ocirt: start web1: start gate: x").said(), "start gate: x");
        assert_eq!(failed("ocirt: start web1: cannot restart\n").said(), "cannot restart\n");
        assert_eq!(failed("time=x msg=\"cannot Start\"").said(), "time=x msg=\"cannot start\"");
    }
}
