//! Verbs about the process: identity, limits, namespaces, and what the kernel lets it do.

use crate::answer::Answer;
use crate::files::check;
use ocirt_sys::capability;
use serde_json::{Map, Value, json};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Real, effective, saved and file-system ids, the supplementary groups and the umask.
pub fn ids() -> Answer {
    let (mut uids, mut gids) = ([0u32; 3], [0u32; 3]);
    let [a, b, c] = &mut uids;
    // SAFETY: three valid pointers to u32.
    unsafe { libc::getresuid(a, b, c) };
    let [a, b, c] = &mut gids;
    // SAFETY: three valid pointers to u32.
    unsafe { libc::getresgid(a, b, c) };
    let mut groups = vec![0u32; 256];
    // SAFETY: the buffer has room for as many ids as we say.
    let count = check(unsafe { libc::getgroups(256, groups.as_mut_ptr()) }.into())?;
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups.sort_unstable();
    // SAFETY: umask has no failure and no memory.
    let umask = unsafe { libc::umask(0o22) };
    // SAFETY: as above.
    unsafe { libc::umask(umask) };
    Ok(json!({ "uid": uids, "gid": gids, "groups": groups, "umask": format!("{umask:04o}") }))
}

/// The five sets by name, from the kernel and not from /proc, which may be absent or fake.
pub fn capabilities() -> Answer {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 takes an 8-byte header and two 12-byte data structures.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let mask = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let by_prctl = |option: libc::c_int, argument: libc::c_ulong| {
        (0..capability::NAMES.len() as libc::c_ulong)
            // SAFETY: these prctl options read no memory.
            .filter(|&cap| unsafe {
                let (second, third) = if argument == 0 { (cap, 0) } else { (argument, cap) };
                libc::prctl(option, second, third, 0 as libc::c_ulong, 0 as libc::c_ulong) == 1
            })
            .fold(0u64, |bits, cap| bits | 1 << cap)
    };
    let sets = [
        ("effective", mask(data[0], data[3])),
        ("permitted", mask(data[1], data[4])),
        ("inheritable", mask(data[2], data[5])),
        ("bounding", by_prctl(libc::PR_CAPBSET_READ, 0)),
        ("ambient", by_prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong)),
    ];
    let names = |bits: u64| {
        let all = capability::NAMES.iter().enumerate();
        all.filter(|(index, _)| bits >> index & 1 == 1).map(|(_, name)| *name).collect::<Vec<_>>()
    };
    Ok(sets.into_iter().map(|(name, bits)| (name.to_owned(), json!(names(bits)))).collect::<Map<_, _>>().into())
}

const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// `{name: [soft, hard]}`.
pub fn rlimits() -> Answer {
    let mut all = Map::new();
    for (name, number) in RLIMITS {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is ours and of the right type.
        check(unsafe { libc::getrlimit(number, &mut limit) }.into())?;
        all.insert(name.to_owned(), json!([limit.rlim_cur, limit.rlim_max]));
    }
    Ok(all.into())
}

/// One field of /proc/self/status, e.g. `Seccomp`.
pub fn status_field(name: &str) -> Answer {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.map_or(Value::Null, |value| json!(value.trim())))
}

/// The kernel's own words, so `(unreachable)` is visible.
pub fn cwd() -> Answer {
    let mut buffer = [0u8; 4096];
    // SAFETY: the buffer has the length we say.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    let end = usize::try_from(length - 1).unwrap_or(0);
    Ok(json!(String::from_utf8_lossy(buffer.get(..end).unwrap_or_default())))
}

/// `{type: inode text}` of /proc/self/ns.
pub fn namespaces() -> Answer {
    let mut all = Map::new();
    for entry in std::fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let inode = std::fs::read_link(entry.path())?.to_string_lossy().into_owned();
        all.insert(entry.file_name().to_string_lossy().into_owned(), json!(inode));
    }
    Ok(all.into())
}

/// `{number: target}` of the open descriptors, without the one that reads the list.
pub fn descriptors() -> Answer {
    let mut all = Map::new();
    for fd in 0..1024 {
        // SAFETY: F_GETFD reads no memory.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1 {
            let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            all.insert(fd.to_string(), json!(target.to_string_lossy()));
        }
    }
    Ok(all.into())
}

/// `call NR A B C D E F`: a raw system call with numbers, `@` for a zeroed page.
pub fn system_call(arguments: &[&str]) -> Answer {
    let mut page = vec![0u8; 4096];
    let mut numbers = [0i64; 7];
    for (slot, text) in numbers.iter_mut().zip(arguments) {
        *slot = if *text == "@" { page.as_mut_ptr() as i64 } else { text.parse().unwrap_or(0) };
    }
    let [nr, a, b, c, d, e, f] = numbers;
    // SAFETY: the tests pass numbers which the kernel refuses or ignores, and a page of our own.
    check(unsafe { libc::syscall(nr, a, b, c, d, e, f) }).map(|ret| json!(ret))
}

/// Host name, domain name, machine.
pub fn uname() -> Answer {
    // SAFETY: an all-zero utsname is a valid value.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    check(unsafe { libc::uname(&mut name) }.into())?;
    let text = |field: &[libc::c_char]| {
        field.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8 as char).collect::<String>()
    };
    Ok(
        json!({ "hostname": text(&name.nodename), "domainname": text(&name.domainname), "machine": text(&name.machine) }),
    )
}

pub fn set_host_name(name: &str) -> Answer {
    // SAFETY: pointer and length belong to one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(json!("ok"))
}

/// The description of the session keyring (keyctl_describe(3)), e.g. `keyring;0;0;3f010000;_ses.web1`.
pub fn session_keyring() -> Answer {
    let mut buffer = [0u8; 512];
    // SAFETY: KEYCTL_DESCRIBE (6) of KEY_SPEC_SESSION_KEYRING (-3) into a buffer of the length we say.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, 6, -3, buffer.as_mut_ptr(), buffer.len()) };
    let length = usize::try_from(check(ret)? - 1).unwrap_or(0);
    Ok(json!(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default())))
}

pub fn personality() -> Answer {
    // SAFETY: 0xffffffff only queries.
    check(unsafe { libc::personality(0xffff_ffff) }.into()).map(|value| json!(value))
}

/// sched_getattr(2): policy, flags, nice, priority, runtime, deadline, period.
pub fn scheduler() -> Answer {
    let mut words = [0u64; 7];
    // SAFETY: the kernel writes at most the 56 bytes that we say.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, words.as_mut_ptr(), 56, 0) })?;
    let [first, flags, second, runtime, deadline, period, _] = words;
    Ok(json!({ "policy": first >> 32, "flags": flags, "nice": second as u32 as i32, "priority": second >> 32,
               "runtime": runtime, "deadline": deadline, "period": period }))
}

/// ioprio_get(2) of this process: class and level.
pub fn io_priority() -> Answer {
    // SAFETY: reads no memory.
    let value = check(unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) })?;
    Ok(json!([value >> 13, value & 7]))
}

/// get_mempolicy(2): mode and flags, and the first 64 nodes as a mask.
pub fn memory_policy() -> Answer {
    let (mut mode, mut mask) = (0i32, [0u64; 16]);
    // SAFETY: the mask has the 1024 bits that we say.
    check(unsafe { libc::syscall(libc::SYS_get_mempolicy, &mut mode, mask.as_mut_ptr(), 1024, 0, 0) })?;
    Ok(json!([mode, mask[0]]))
}

/// Seconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME.
pub fn clocks() -> Answer {
    let seconds = |clock| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure is ours.
        unsafe { libc::clock_gettime(clock, &mut now) };
        now.tv_sec
    };
    Ok(json!({ "monotonic": seconds(libc::CLOCK_MONOTONIC), "boottime": seconds(libc::CLOCK_BOOTTIME) }))
}

/// Pid, parent, session and process group.
pub fn session() -> Answer {
    // SAFETY: these calls cannot fail and read no memory.
    let (pid, parent, session, group) = unsafe { (libc::getpid(), libc::getppid(), libc::getsid(0), libc::getpgrp()) };
    Ok(json!({ "pid": pid, "parent": parent, "session": session, "group": group }))
}

/// Which of 0, 1, 2 are terminals, the window's rows and columns, and whether it is the controlling one.
pub fn terminal() -> Answer {
    // SAFETY: isatty reads no memory.
    let tty = [0, 1, 2].map(|fd| unsafe { libc::isatty(fd) } == 1);
    let mut size = [0u16; 4];
    // SAFETY: TIOCGWINSZ writes four u16.
    unsafe { libc::ioctl(0, libc::TIOCGWINSZ, size.as_mut_ptr()) };
    let controlling = std::fs::File::open("/dev/tty").is_ok();
    let name = std::fs::read_link("/proc/self/fd/0").unwrap_or_default();
    let stat = crate::files::stat("/dev/console").unwrap_or(Value::Null);
    Ok(json!({ "tty": tty, "rows": size[0], "columns": size[1], "controlling": controlling,
               "name": name.to_string_lossy(), "console": stat["kind"] }))
}

/// `hook LOG NAME EXIT SLEEP`: appends what the hook was given as one JSON line to LOG.
pub fn hook(arguments: &[&str]) -> Answer {
    let at = |index: usize| arguments.get(index).copied().unwrap_or("");
    let mut stdin = String::new();
    io::stdin().read_to_string(&mut stdin)?;
    let state: Value = serde_json::from_str(&stdin).unwrap_or_else(|_| json!(stdin));
    let environment: Map<String, Value> = std::env::vars().map(|(key, value)| (key, json!(value))).collect();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let status: Map<String, Value> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), json!(value.trim())))
        .collect();
    let line = json!({ "name": at(1), "state": state, "env": environment, "cwd": cwd().ok(), "status": status,
                       "rlimits": rlimits().ok(),
                       "ns": namespaces().ok(), "argv0": std::env::args().next(), "fds": descriptors().ok() });
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(at(0))?;
    // One write, since a runtime may run two hooks at once.
    log.write_all(format!("{line}\n").as_bytes())?;
    std::thread::sleep(Duration::from_secs_f64(at(3).parse().unwrap_or(0.0)));
    std::process::exit(at(2).parse().unwrap_or(0))
}
