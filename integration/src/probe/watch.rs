//! What a process of a container sees of those that are born in its pid namespace, from the first moment on.

use crate::answer::Answer;
use serde_json::{Value, json};
use std::fs::read_to_string;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Those that are looked for after the last one.
const AHEAD: i32 = 8;
/// After how long without one this process may have been away while more than these came and went.
const AWAY: Duration = Duration::from_millis(40);
/// How long a process may take to be stopped, on a machine with other work.
const STOPPING: Duration = Duration::from_secs(5);
/// The namespaces that a process can change.
const NAMESPACES: [&str; 6] = ["mnt", "net", "ipc", "uts", "user", "cgroup"];

/// `watch SECONDS COUNT MARK FORBIDDEN…`: stops each process that is born here, at once, and looks at it; says `ready` and
/// its own cgroup, then a line for each, with what is wrong about it, and at last how many there were. MARK is an absolute path of the
/// host's, and a mount; the FORBIDDEN are namespaces of the host's, as `/proc/PID/ns` shows them.
pub fn watch(arguments: &[&str]) -> Answer {
    let [seconds, count, mark, forbidden @ ..] = arguments else { return Ok(json!("watch SECONDS COUNT MARK …")) };
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(number(seconds));
    let mut last = next_pid()?;
    writeln!(io::stdout(), "\"ready\"\n{}", json!(read_to_string("/proc/self/cgroup")?))?;
    let mut caught = 0;
    let mut since = Instant::now();
    while Instant::now() < end && caught < number(count) {
        // SAFETY: no memory is passed.
        let Some(pid) = (last + 1..last + AHEAD).find(|pid| unsafe { libc::kill(*pid, libc::SIGSTOP) } == 0) else {
            if since.elapsed() > AWAY {
                last = next_pid()?;
                since = Instant::now();
            }
            continue;
        };
        (last, since) = (pid, Instant::now());
        let seen = look(pid, mark, forbidden);
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        if let Some(seen) = seen {
            caught += 1;
            writeln!(io::stdout(), "{seen}")?;
        }
    }
    Ok(json!({ "caught": caught }))
}

/// `stopearly SECONDS [NAME]`: stops the next process that is born here and has not become its program, if its name is this
/// one; says `ready`, then its name, and goes on after so long.
pub fn stop_early(seconds: &str, wanted: &str) -> Answer {
    let end = Duration::from_secs(seconds.parse().unwrap_or(0));
    catch_early(end, |_, name| {
        if !wanted.is_empty() && name != wanted {
            return Ok(());
        }
        writeln!(io::stdout(), "{}", json!(name))?;
        std::thread::sleep(end);
        Ok(())
    })
}

/// `limitearly SECONDS RESOURCE`: for so long, each process that is born here gets a limit of 0 (prlimit(2)) before it has
/// become its program; says `ready`, then the name of each, or the error.
pub fn limit_early(seconds: &str, resource: &str) -> Answer {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let resource: u32 = resource.parse().unwrap_or(u32::MAX);
    catch_early(Duration::from_secs(seconds.parse().unwrap_or(0)), |pid, name| {
        // SAFETY: the new limit outlives the call, and the old one is not asked for.
        let ret = unsafe { libc::prlimit(pid, resource as _, &raw const none, std::ptr::null_mut()) };
        let said = if ret == 0 { json!(name) } else { json!(io::Error::last_os_error().to_string()) };
        writeln!(io::stdout(), "{said}")
    })
}

/// Says `ready`; then stops each process that is born here for as long as `with` is busy with it, if it has not become its
/// program.
fn catch_early(time: Duration, with: impl Fn(i32, &str) -> io::Result<()>) -> Answer {
    let mut last = next_pid()?;
    writeln!(io::stdout(), "\"ready\"")?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        // SAFETY: no memory is passed.
        let next = (last + 1..last + AHEAD).find(|pid| unsafe { libc::kill(*pid, libc::SIGSTOP) } == 0);
        let Some(pid) = next else { continue };
        last = pid;
        if let Some(name) = name_when_stopped(pid).filter(|name| name.starts_with("ocirt")) {
            with(pid, &name)?;
        }
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
    }
    Ok(json!("ended"))
}

/// `seize SECONDS`: for so long, traces each process that is born here (PTRACE_SEIZE), and never waits for it, so that its
/// parent cannot reap it; says `ready`, then the pid of each.
pub fn seize(seconds: &str) -> Answer {
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(0));
    let mut last = next_pid()?;
    writeln!(io::stdout(), "\"ready\"")?;
    while Instant::now() < end {
        // SAFETY: PTRACE_SEIZE reads no memory.
        let seize = |pid: &i32| unsafe { libc::ptrace(libc::PTRACE_SEIZE, *pid, 0, 0) } == 0;
        if let Some(pid) = (last + 1..last + AHEAD).find(seize) {
            last = pid;
            writeln!(io::stdout(), "{pid}")?;
        }
    }
    Ok(json!("ended"))
}

/// The pid after which the next process here gets its own.
fn next_pid() -> io::Result<i32> {
    // SAFETY: the child ends at once.
    match unsafe { libc::fork() } {
        // SAFETY: as above.
        0 => unsafe { libc::_exit(0) },
        -1 => Err(io::Error::last_os_error()),
        pid => {
            // SAFETY: our own child, and no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            Ok(pid)
        }
    }
}

/// The name of a process that was sent SIGSTOP, once that has effect, at its next way out of the kernel; None: it has ended, or
/// is not stopped in time. Before that a name says nothing, since execve(2) may come between.
fn name_when_stopped(pid: i32) -> Option<String> {
    let end = Instant::now() + STOPPING;
    while Instant::now() < end {
        let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
        match stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes().first().copied()) {
            Some(Some(b'T' | b't')) => {
                return Some(read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned());
            }
            Some(Some(b'Z' | b'X')) => return None,
            _ => std::thread::yield_now(),
        }
    }
    None
}

/// What there is to be said of a process that has been stopped: its name and what is wrong; None: it has ended.
fn look(pid: i32, mark: &str, forbidden: &[&str]) -> Option<Value> {
    let file = |name: &str| read_to_string(format!("/proc/{pid}/{name}"));
    let name = name_when_stopped(pid)?;
    let is_ours = name.starts_with("ocirt");
    let mut wrong = Vec::new();
    let command = file("cmdline").unwrap_or_default();
    // One that has just been killed has none any more.
    if is_ours && !command.is_empty() && command.trim_end_matches('\0') != name {
        wrong.push(format!("command line {command:?}"));
    }
    if !is_ours && !command.is_empty() && !command.starts_with("/probe") {
        wrong.push(format!("name {name:?} of {command:?}"));
    }
    if file("mountinfo").unwrap_or_default().contains(mark) {
        wrong.push("the host's mounts".to_owned());
    }
    if std::fs::symlink_metadata(format!("/proc/{pid}/root{mark}")).is_ok() {
        wrong.push("the host's root".to_owned());
    }
    for kind in NAMESPACES {
        match std::fs::read_link(format!("/proc/{pid}/ns/{kind}")) {
            Ok(link) if forbidden.iter().any(|other| link.as_os_str() == *other) => {
                wrong.push(format!("the host's {kind}"))
            }
            _ => {}
        }
    }
    if is_ours {
        wrong.extend(open_files(pid));
    }
    if is_ours && may_trace(pid) && !can_trace_all() {
        wrong.push("dumpable".to_owned());
    }
    let cgroup = file("cgroup").unwrap_or_default();
    // One that was killed meanwhile has left its cgroup, and shows nothing more.
    let stat = file("stat").ok()?;
    stat.contains(") T ").then(|| json!({ "pid": pid, "name": name, "wrong": wrong, "cgroup": cgroup }))
}

/// The files and directories that it has open besides the first three descriptors, and but for its own root, below which it
/// looks up its working and home directory: that this is not the host's is asked of `root` itself.
fn open_files(pid: i32) -> Vec<String> {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let root = file(Path::new(&format!("/proc/{pid}/root")));
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let numbers = entries.filter(|entry| !["0", "1", "2"].iter().any(|number| entry.file_name() == *number));
    let others = numbers.filter(|entry| root.is_none() || file(&entry.path()) != root);
    let targets = others.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let files = targets.filter(|target| target.is_absolute() && !target.ends_with("probe"));
    files.map(|target| format!("open {}", target.display())).collect()
}

/// Whether this process may look into that one as only who may trace it can.
fn may_trace(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok()
}

/// Whether it has CAP_SYS_PTRACE, bit 19, in the user namespace of the host: others may be traced then, whatever they do.
fn can_trace_all() -> bool {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let map = read_to_string("/proc/self/uid_map").unwrap_or_default();
    u64::from_str_radix(effective.trim(), 16).is_ok_and(|bits| bits >> 19 & 1 == 1) && map.contains("4294967295")
}
