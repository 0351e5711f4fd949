//! A walk: a text of commands and of what they print, run line by line.
//!
//! ```text
//! engine: docker
//!
//! # what the step shows
//! $ docker run --rm box echo hello      the command, for sh -c; `> ` continues it on the next line
//! hello                                 what it prints, stdout and stderr together: * is any text in a line,
//! ...                                   three dots are any lines, none too
//! [1]                                   the exit status, where it is not 0
//! needs: test -e /dev/fuse              skipped, aloud, where this fails
//! within: 3600 s                        how long the command may take, where that is not DEADLINE
//! except runc: why it is so             with this runtime the step must turn out otherwise; with `sometimes: ` before
//!                                       the reason, it may
//! ```
//!
//! A blank line ends a step.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ocirt_integration::{host, runtime};

/// How long one command may take unless its step says otherwise; a build on a loaded machine is the longest.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a command measured, which is shown in any case.
const FIGURE: &str = "figure: ";

/// How steps turned out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    /// Three numbers, as they are passed from process to process.
    pub fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
        Some(Self { passed: numbers.next()?, failed: numbers.next()?, skipped: numbers.next()? })
    }

    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub struct Walk {
    pub name: String,
    pub engine: String,
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Step {
    claim: String,
    command: String,
    output: Vec<String>,
    status: i32,
    needs: Option<String>,
    within: Option<Duration>,
    except: Vec<(String, String)>,
}

impl Walk {
    /// The walks of a directory, by name.
    pub fn all(directory: &Path) -> Vec<Walk> {
        let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "walk"));
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Walk::parse(name.clone(), &text).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        paths.iter().map(read).collect()
    }

    /// Whether `names` ask for it; no names ask for all.
    pub fn is_named(&self, names: &[String]) -> bool {
        names.is_empty() || names.contains(&self.name)
    }

    pub fn length(&self) -> usize {
        self.steps.len()
    }

    fn parse(name: String, text: &str) -> Result<Self, String> {
        let mut blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
        let head = blocks.next().unwrap_or_default();
        let engine = head.strip_prefix("engine: ").ok_or("the first line is not `engine: NAME`")?.to_owned();
        let steps = blocks.map(Step::parse).collect::<Result<_, _>>()?;
        Ok(Self { name, engine, steps })
    }

    /// Takes the steps one after the other; each that fails is shown, and the rest goes on.
    pub fn run(&self, kind: &str, environment: &[(String, String)], place: &Path) -> Tally {
        let mut tally = Tally::default();
        for step in &self.steps {
            let begin = std::time::Instant::now();
            let verdict = step.run(kind, environment, place);
            match &verdict {
                Verdict::Passed => tally.passed += 1,
                Verdict::Skipped => tally.skipped += 1,
                Verdict::Failed(_) => tally.failed += 1,
            }
            let seconds = begin.elapsed().as_secs_f32();
            match verdict {
                Verdict::Passed if seconds < 3.0 => {}
                Verdict::Passed => println!("   slow    {seconds:5.1} s  {}", step.claim),
                Verdict::Skipped => println!("   skipped          {}", step.claim),
                Verdict::Failed(why) => println!("   FAILED  {seconds:5.1} s  {}\n{why}", step.claim),
            }
        }
        tally
    }
}

enum Verdict {
    Passed,
    Skipped,
    Failed(String),
}

impl Step {
    fn parse(block: &str) -> Result<Self, String> {
        let mut step = Step::default();
        for line in block.lines() {
            if let Some(text) = line.strip_prefix("# ").filter(|_| step.command.is_empty()) {
                step.claim = format!("{} {text}", step.claim).trim().to_owned();
            } else if let Some(text) = line.strip_prefix("$ ") {
                step.command = text.to_owned();
            } else if let Some(text) = line.strip_prefix("> ") {
                step.command = format!("{}\n{text}", step.command);
            } else if let Some(text) = line.strip_prefix("needs: ") {
                step.needs = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("within: ") {
                let seconds = text.strip_suffix(" s").and_then(|text| text.parse().ok());
                step.within = Some(Duration::from_secs(seconds.ok_or(format!("no seconds in {line:?}"))?));
            } else if let Some(text) = line.strip_prefix("except ") {
                let (kind, why) = text.split_once(": ").ok_or(format!("no reason in {line:?}"))?;
                step.except.push((kind.to_owned(), why.to_owned()));
            } else if let Some(status) = line.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                step.status = status.parse().map_err(|_| format!("no status in {line:?}"))?;
            } else {
                step.output.push(line.to_owned());
            }
        }
        if step.claim.is_empty() || step.command.is_empty() {
            return Err(format!("no claim or no command in {block:?}"));
        }
        Ok(step)
    }

    fn run(&self, kind: &str, environment: &[(String, String)], place: &Path) -> Verdict {
        if let Some(needs) = &self.needs
            && call(needs, DEADLINE, environment, place).0 != Some(0)
        {
            return Verdict::Skipped;
        }
        let (status, output) = call(&self.command, self.within.unwrap_or(DEADLINE), environment, place);
        let lines: Vec<&str> = output.lines().collect();
        lines.iter().filter(|line| line.starts_with(FIGURE)).for_each(|line| println!("   {line}"));
        let expected: Vec<&str> = self.output.iter().map(String::as_str).collect();
        let holds = status == Some(self.status) && fits(&expected, &lines);
        let except = self.except.iter().find(|(name, _)| name == kind);
        match (holds, except) {
            (true, None) | (false, Some(_)) => Verdict::Passed,
            (true, Some((_, why))) if why.starts_with("sometimes: ") => Verdict::Passed,
            (true, Some((_, why))) => Verdict::Failed(format!("it holds, although it is expected not to: {why}")),
            (false, None) => {
                let status = status.map_or("no end in time".to_owned(), |status| format!("status {status}"));
                let wanted = format!("{}\n[{}]", self.output.join("\n"), self.status);
                Verdict::Failed(format!("$ {}\n{output}[{status}]\n-- expected:\n{wanted}\n--", self.command))
            }
        }
    }
}

/// The exit status, 128 and the signal, and what was printed; no status: it was killed, `within` was over.
fn call(command: &str, within: Duration, environment: &[(String, String)], place: &Path) -> (Option<i32>, String) {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    let path = place.join("output");
    let file = File::create(&path).expect("output file");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(place).envs(environment.iter().cloned()).stdin(Stdio::null());
    shell.stdout(file.try_clone().expect("dup")).stderr(file).process_group(0);
    let mut child = shell.spawn().expect("sh");
    let status = runtime::wait(&mut child, within);
    if status.is_none() {
        host::kill_tree(child.id());
    }
    let output = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).replace('\r', "");
    (status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))), output)
}

/// Whether the lines are what was expected, `...` standing for any lines.
fn fits(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..])),
        Some((first, rest)) => lines.split_first().is_some_and(|(line, more)| glob(first, line) && fits(rest, more)),
    }
}

/// Whether the line is what was expected, `*` standing for any text.
fn glob(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_matched_by_lines_and_stars() {
        assert!(fits(&["a", "...", "z*"], &["a", "b", "c", "zzz"]));
        assert!(fits(&["...", "a"], &["a"]));
        assert!(fits(&["a*c*e"], &["abcde"]));
        assert!(!fits(&["a*c"], &["abd"]));
        assert!(!fits(&["a"], &["a", "b"]));
        assert!(!fits(&["a", "b"], &["a"]));
    }

    #[test]
    fn a_step_is_read_whole() {
        let text =
            "engine: docker\n\n# a claim\n$ one\n> two\nout\n[3]\nneeds: true\nwithin: 9 s\nexcept runc: since\n";
        let walk = Walk::parse("x".to_owned(), text).unwrap();
        let step = Step {
            claim: "a claim".to_owned(),
            command: "one\ntwo".to_owned(),
            output: vec!["out".to_owned()],
            status: 3,
            needs: Some("true".to_owned()),
            within: Some(Duration::from_secs(9)),
            except: vec![("runc".to_owned(), "since".to_owned())],
        };
        assert_eq!((walk.engine.as_str(), walk.steps), ("docker", vec![step]));
    }

    #[test]
    fn a_step_without_a_command_is_an_error() {
        assert!(Walk::parse("x".to_owned(), "engine: docker\n\n# nothing\n").is_err());
        assert!(Walk::parse("x".to_owned(), "no engine").is_err());
        assert!(Walk::parse("x".to_owned(), "engine: docker\n\n# a claim\n$ one\nwithin: soon\n").is_err());
    }
}
