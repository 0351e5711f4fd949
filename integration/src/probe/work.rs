//! Verbs that do something for a while: use memory and time, have children, look around, count, wait for a signal, or become
//! another program.

use crate::answer::Answer;
use crate::files::check;
use crate::process::session_keyring;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

/// How many children (at most `wanted`) can live at once.
pub fn forks(wanted: &str) -> Answer {
    let wanted: usize = wanted.parse().unwrap_or(0);
    let mut children = Vec::new();
    let mut refusal = Value::Null;
    while children.len() < wanted {
        // SAFETY: the child only sleeps; the probe has one thread.
        match unsafe { libc::fork() } {
            0 => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            -1 => {
                refusal = json!(crate::table::errno_name(&io::Error::last_os_error()));
                break;
            }
            pid => children.push(pid),
        }
    }
    for &pid in &children {
        // SAFETY: our own, unreaped children.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    Ok(json!({ "children": children.len(), "refusal": refusal }))
}

/// Touches `megabytes` of memory.
pub fn eat(megabytes: &str) -> Answer {
    let mut all = Vec::new();
    for _ in 0..megabytes.parse().unwrap_or(0) {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
    Ok(json!(all.len()))
}

/// Fills the page cache with `megabytes` of a file that are on the disk already.
pub fn cache(path: &str, megabytes: &str) -> Answer {
    let mut file = std::fs::File::create(path)?;
    for _ in 0..megabytes.parse().unwrap_or(0) {
        file.write_all(&vec![1u8; 1 << 20])?;
    }
    file.sync_all()?;
    Ok(json!("cached"))
}

/// The exit status (128 and the signal) of a child that eats as much.
pub fn child_eats(megabytes: &str) -> Answer {
    let mut command = std::process::Command::new("/proc/self/exe");
    let status = command.args(["eat", megabytes]).stdout(std::process::Stdio::null()).status()?;
    Ok(json!(status.code().or(std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal))))
}

/// CPU milliseconds got while spinning for `milliseconds` of wall time.
pub fn burn(milliseconds: &str) -> Answer {
    let end = Instant::now() + Duration::from_millis(milliseconds.parse().unwrap_or(0));
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut used) };
    Ok(json!(used.tv_sec * 1000 + used.tv_nsec / 1_000_000))
}

/// Leaves a child that ignores SIGTERM and sleeps, and says its pid.
pub fn spawn_sleeper(seconds: &str) -> Answer {
    let mut command = std::process::Command::new("/proc/self/exe");
    let null = std::process::Stdio::null;
    command.args(["sleep", seconds]).stdin(null()).stdout(null()).stderr(null());
    Ok(json!(command.spawn()?.id()))
}

/// Becomes another program; the answer is why not.
pub fn exec(arguments: &[&str]) -> Answer {
    let Some((program, rest)) = arguments.split_first() else { return Ok(Value::Null) };
    Err(std::process::Command::new(program).args(rest).exec())
}

/// Looks, for so many seconds, into every other process; says `ready`, then each file of another program that it could
/// reach there. What its own program opens, and sockets and pipes, which nobody can open, are none.
pub fn snoop(seconds: &str) -> Answer {
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap_or(0));
    writeln!(io::stdout(), "\"ready\"")?;
    while Instant::now() < end {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "1" || name.parse::<u32>().is_err() {
                continue;
            }
            // Who may read this may trace. In the middle of an execve(2) there is but the stack of the new program.
            let maps = std::fs::read_to_string(entry.path().join("maps")).unwrap_or_default();
            if maps.contains(" /") && !maps.contains("/probe") {
                writeln!(io::stdout(), "{name} {}", maps.lines().next().unwrap_or_default())?;
            }
            let fds = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
            let fds = fds.filter(|fd| !["0", "1", "2"].iter().any(|number| fd.ends_with(number)));
            for link in ["exe", "root", "cwd"].map(|link| entry.path().join(link)).into_iter().chain(fds) {
                let target = std::fs::read_link(&link).unwrap_or_default().to_string_lossy().into_owned();
                let own = ["", "/", "/probe"].contains(&target.as_str()) || target == format!("/proc/{name}/maps");
                if !own && !target.starts_with("socket:") && !target.starts_with("pipe:") {
                    writeln!(io::stdout(), "{} {target}", link.display())?;
                }
            }
        }
    }
    Ok(json!("ended"))
}

pub fn sleep(seconds: &str) -> Answer {
    io::stdout().flush()?;
    std::thread::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(0.0)));
    Ok(json!("slept"))
}

/// Prints the numbers from 1 on, one every ten milliseconds.
pub fn tick(last: &str) -> Answer {
    use std::io::Write;
    for number in 1..last.parse().unwrap_or(0) {
        writeln!(std::io::stdout(), "{number}")?;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(json!(last))
}

/// Says `ready`, then the number of the next signal; every signal that can be is blocked.
pub fn sigwait() -> Answer {
    // SAFETY: sigset_t is plain data, and the calls only touch it.
    let (mut set, mut signal) = (unsafe { std::mem::zeroed::<libc::sigset_t>() }, 0);
    // SAFETY: as above.
    unsafe {
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
    writeln!(io::stdout(), "\"ready\"")?;
    // SAFETY: both pointers are ours.
    unsafe { libc::sigwait(&set, &mut signal) };
    Ok(json!(signal))
}

/// Kills itself, with the default action restored (std ignores SIGPIPE).
pub fn raise(signal: &str) -> Answer {
    let signal = signal.parse().unwrap_or(0);
    // SAFETY: plain signal calls.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    Ok(json!("alive"))
}

/// Writes the numbers from 1 into the file `path`, the last one only, one every 10 ms, for ever; with nothing open but
/// the container's own files.
pub fn count(path: &str) -> Answer {
    count_with(path, || Ok(String::new()))
}

/// As [`count`] in the file `out`, with what is in the file `path` behind each number: that is open all the time, and
/// written if it is not there.
pub fn hold(path: &str, out: &str) -> Answer {
    if !std::path::Path::new(path).exists() {
        std::fs::write(path, "held")?;
    }
    let writable = std::fs::File::options().read(true).write(true).open(path);
    let file = writable.or_else(|_| std::fs::File::open(path))?;
    count_with(out, || {
        let mut text = [0; 64];
        let length = std::os::unix::fs::FileExt::read_at(&file, &mut text, 0)?;
        Ok(format!(" {}", String::from_utf8_lossy(&text[..length])))
    })
}

/// As [`count`], with the description of the session keyring.
pub fn count_keyring(path: &str) -> Answer {
    count_with(path, || Ok(format!(" {}", session_keyring()?)))
}

/// As [`count`] in the file `out`, beside a socket of the name `name`, in which descriptor `fd` is to lead to `directory`.
pub fn count_bound(directory: &str, fd: &str, name: &str, out: &str) -> Answer {
    use std::os::fd::AsRawFd;
    let directory = std::fs::File::open(directory)?;
    // SAFETY: takes integers only; nobody owns what is at the number.
    check(unsafe { libc::dup2(directory.as_raw_fd(), fd.parse().unwrap_or(-1)) }.into())?;
    let _socket = std::os::unix::net::UnixListener::bind(name)?;
    count(out)
}

fn count_with(path: &str, text: impl Fn() -> Result<String, std::io::Error>) -> Answer {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for fd in 0..3 {
        // SAFETY: takes integers only; nobody owns the first three.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) }.into())?;
    }
    drop(null);
    let file = std::fs::File::create(path)?;
    for number in 1u32.. {
        file.write_all_at(format!("{number:010}{}", text()?).as_bytes(), 0)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(json!("ok"))
}

/// Ends the first thread, as a program may; another one goes on.
pub fn end_first_thread() -> Answer {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    writeln!(io::stdout(), "\"ends\"")?;
    // SAFETY: nothing of this thread's is used by the other one.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(io::Error::last_os_error())
}
