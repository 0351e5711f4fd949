//! What somebody with the rights of the host can change of a container behind its back, and the field of config.json that
//! is not true any more.

use std::fs;
use std::os::fd::AsRawFd;

use ocirt_integration::bundle::Container;
use ocirt_integration::host;

use super::intruder::{Entered, Intruder, cgroup, in_mounts, mount, mount_from_outside, umount};

pub struct Plant {
    pub what: &'static str,
    pub field: &'static str,
    /// Whether this machine has what it needs.
    pub fits: fn() -> bool,
    pub plant: fn(&Container) -> Vec<Entered>,
}

fn always() -> bool {
    true
}

fn on_v1() -> bool {
    !host::is_cgroup2()
}

fn on_v2() -> bool {
    host::is_cgroup2()
}

fn has_two_cpus() -> bool {
    std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)
}

/// CAP_SYS_RESOURCE: only with it a hard limit grows.
fn can_raise_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff").trim();
    u64::from_str_radix(mask, 16).expect("a mask") >> 24 & 1 == 1
}

const fn plant(what: &'static str, field: &'static str, plant: fn(&Container) -> Vec<Entered>) -> Plant {
    Plant { what, field, fits: always, plant }
}

const fn where_it(fits: fn() -> bool, plant: Plant) -> Plant {
    Plant { fits, ..plant }
}

const REMOUNT: libc::c_ulong = libc::MS_REMOUNT | libc::MS_BIND;
const RESTRICTED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

fn mounts(container: &Container, work: impl FnOnce()) -> Vec<Entered> {
    in_mounts(container, work);
    Vec::new()
}

fn remount(container: &Container, path: &std::ffi::CStr, flags: libc::c_ulong) -> Vec<Entered> {
    mounts(container, || mount(c"none", path, c"", REMOUNT | flags))
}

fn write(container: &Container, controller: &str, v1: &str, v2: &str, value: &str) -> Vec<Entered> {
    let file = if host::is_cgroup2() { v2 } else { v1 };
    let path = cgroup(container, controller).join(file);
    fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Vec::new()
}

fn enters(intruder: Intruder) -> Vec<Entered> {
    vec![intruder.enter()]
}

/// Writes to a parameter of the container's namespaces.
fn sysctl(container: &Container, path: &str, value: &'static [u8]) -> Vec<Entered> {
    let path = std::ffi::CString::new(path).expect("a path");
    // Through a procfs of the host: the container's is read-only.
    // SAFETY: the string is NUL-terminated.
    let proc = unsafe { libc::open(c"/proc".as_ptr(), libc::O_PATH) };
    vec![Intruder::new(container).enter_and(|| {
        // SAFETY: the string is NUL-terminated, and the value as long as is said.
        unsafe {
            let fd = libc::openat(proc, path.as_ptr(), libc::O_WRONLY);
            if fd < 0 || libc::write(fd, value.as_ptr().cast(), value.len()) < 0 {
                libc::_exit(1);
            }
        }
    })]
}

fn second(container: &Container) -> u32 {
    let init = container.pid();
    host::descendants(init).into_iter().find(|pid| *pid != init).expect("a second process")
}

/// Into a cgroup above the container's: the first that takes processes, which one of systemd's slices does not.
fn move_out(container: &Container, pid: u32) -> Vec<Entered> {
    let own = cgroup(container, "pids");
    let mut above = own.ancestors().skip(1);
    above.find(|above| fs::write(above.join("cgroup.procs"), pid.to_string()).is_ok()).expect("a cgroup above");
    Vec::new()
}

fn exits_unless(holds: bool) {
    if !holds {
        // SAFETY: no memory is passed.
        unsafe { libc::_exit(1) };
    }
}

fn adjusts(container: &Container, pid: u32) -> Vec<Entered> {
    drop(container.status());
    fs::write(format!("/proc/{pid}/oom_score_adj"), "100").expect("oom_score_adj");
    Vec::new()
}

/// With host's directory `/` as what `enters` makes of it.
fn with_hosts_root(container: &Container, becomes_root: bool) -> Vec<Entered> {
    let root = fs::File::open("/").expect("root");
    vec![Intruder::new(container).enter_and(|| {
        // SAFETY: the descriptor is open, the string NUL-terminated.
        unsafe {
            exits_unless(libc::fchdir(root.as_raw_fd()) == 0);
            exits_unless(!becomes_root || libc::chroot(c".".as_ptr()) == 0);
        }
    })]
}

fn lowers_nice(container: &Container) -> Vec<Entered> {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, container.pid(), -5) }, 0);
    Vec::new()
}

fn becomes_real_time(container: &Container) -> Vec<Entered> {
    let parameters = libc::sched_param { sched_priority: 5 };
    let pid = i32::try_from(second(container)).expect("a pid");
    // SAFETY: the struct outlives the call.
    assert_eq!(unsafe { libc::sched_setscheduler(pid, libc::SCHED_FIFO, &parameters) }, 0);
    Vec::new()
}

fn raises_limit(container: &Container) -> Vec<Entered> {
    let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    let pid = i32::try_from(second(container)).expect("a pid");
    // SAFETY: the struct outlives the call.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) }, 0);
    Vec::new()
}

fn with_ids(container: &Container, uid: u32, gid: u32, group: u32) -> Vec<Entered> {
    vec![Intruder::new(container).enter_and(|| {
        // SAFETY: one group is passed.
        unsafe {
            exits_unless(libc::setgroups(1, &group) == 0);
            exits_unless(libc::setresgid(gid, gid, gid) == 0 && libc::setresuid(uid, uid, uid) == 0);
        }
    })]
}

/// Detaches all device programs from its cgroup.
fn frees_devices(container: &Container) -> Vec<Entered> {
    let cgroup = fs::File::open(container.cgroup("")).expect("cgroup");
    let call = |command: libc::c_long, attr: &mut [u32; 64]| {
        // SAFETY: `attr` is as long as is said; the pointer in it leads to `ids`.
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) }
    };
    // BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID and BPF_PROG_DETACH of BPF_CGROUP_DEVICE.
    const DEVICE: u32 = 6;
    let mut ids = [0u32; 64];
    let (address, directory) = (ids.as_mut_ptr() as u64, cgroup.as_raw_fd() as u32);
    let mut query = [0; 64];
    (query[0], query[1], query[4], query[5], query[6]) =
        (directory, DEVICE, address as u32, (address >> 32) as u32, 64);
    assert_eq!(call(16, &mut query), 0, "{}", std::io::Error::last_os_error());
    assert!(query[6] > 0, "no program is attached");
    for id in ids.iter().take(query[6] as usize) {
        let mut by_id = [0; 64];
        by_id[0] = *id;
        let program = call(13, &mut by_id);
        assert!(program > 0);
        let mut detach = [0; 64];
        (detach[0], detach[1], detach[2]) = (directory, program as u32, DEVICE);
        assert_eq!(call(9, &mut detach), 0, "{}", std::io::Error::last_os_error());
    }
    Vec::new()
}

pub const PLANTS: &[Plant] = &[
    // Mounts.
    plant("the root is writable", "root.readonly", |container| remount(container, c"/", 0)),
    plant("a file is unmasked", "linux.maskedPaths[0]", |container| mounts(container, || umount(c"/proc/interrupts"))),
    plant("a directory is unmasked", "linux.maskedPaths[1]", |container| mounts(container, || umount(c"/sys/kernel"))),
    plant("a file is over a mask", "linux.maskedPaths[0]", |container| {
        mounts(container, || mount(c"/proc/version", c"/proc/interrupts", c"", libc::MS_BIND))
    }),
    plant("a directory is over a mask", "linux.maskedPaths[1]", |container| {
        mounts(container, || mount(c"tmpfs", c"/sys/kernel", c"tmpfs", 0))
    }),
    plant("another procfs is over the masks", "linux.maskedPaths[0]", |container| {
        vec![Intruder::new(container).enter_and(|| mount(c"proc", c"/proc", c"proc", 0))]
    }),
    plant("a read-only path is writable", "linux.readonlyPaths[0]", |container| remount(container, c"/proc/sys", 0)),
    plant("a read-only path has no mount", "linux.readonlyPaths[1]", |container| {
        mounts(container, || umount(c"/proc/tty"))
    }),
    plant("programs may be executed", "mounts[3]", |container| {
        remount(container, c"/dev/shm", RESTRICTED & !libc::MS_NOEXEC)
    }),
    plant("set-user-ID bits count", "mounts[3]", |container| {
        remount(container, c"/dev/shm", RESTRICTED & !libc::MS_NOSUID)
    }),
    plant("devices count", "mounts[6]", |container| {
        remount(container, c"/tmp", (RESTRICTED & !libc::MS_NODEV) | libc::MS_RDONLY)
    }),
    plant("a volume is writable", "mounts[7]", |container| remount(container, c"/data", 0)),
    plant("a volume is gone", "mounts[7]", |container| mounts(container, || umount(c"/data"))),
    plant("another directory is over a volume", "mounts[7]", |container| {
        mounts(container, || mount(c"/etc", c"/data", c"", libc::MS_BIND))
    }),
    plant("a volume is shared", "mounts[7]", |container| {
        mounts(container, || mount(c"none", c"/data", c"", libc::MS_SHARED))
    }),
    plant("terminals are gone", "mounts[2]", |container| mounts(container, || umount(c"/dev/pts"))),
    plant("a tmpfs of nobody's", "mounts", |container| mounts(container, || mount(c"tmpfs", c"/etc", c"tmpfs", 0))),
    plant("a directory of the host", "mounts", |container| {
        mount_from_outside(container, "/etc", c"/etc");
        Vec::new()
    }),
    plant("the host's devices", "mounts[1]", |container| {
        mount_from_outside(container, "/dev", c"/dev");
        Vec::new()
    }),
    // The cgroup.
    plant("more processes", "linux.resources.pids.limit", |container| {
        write(container, "pids", "pids.max", "pids.max", "max")
    }),
    plant("more memory", "linux.resources.memory.limit", |container| {
        write(container, "memory", "memory.limit_in_bytes", "memory.max", "134217728")
    }),
    plant("another share", "linux.resources.cpu.shares", |container| {
        write(container, "cpu", "cpu.shares", "cpu.weight", "777")
    }),
    plant("no quota", "linux.resources.cpu.quota", |container| match host::is_cgroup2() {
        true => write(container, "cpu", "", "cpu.max", "max"),
        false => write(container, "cpu", "cpu.cfs_quota_us", "", "-1"),
    }),
    where_it(
        has_two_cpus,
        plant("other CPUs", "linux.resources.cpu.cpus", |container| {
            write(container, "cpuset", "cpuset.cpus", "cpuset.cpus", "0-1")
        }),
    ),
    where_it(
        on_v1,
        plant("a device more", "linux.resources.devices", |container| {
            write(container, "devices", "devices.allow", "", "c 10:229 rwm")
        }),
    ),
    where_it(
        on_v1,
        plant("all devices", "linux.resources.devices", |container| {
            write(container, "devices", "devices.allow", "", "a")
        }),
    ),
    where_it(on_v2, plant("no device program", "linux.resources.devices", frees_devices)),
    plant("init has another cgroup", "linux.cgroupsPath", |container| move_out(container, container.pid())),
    plant("a process has another cgroup", "linux.cgroupsPath", |container| move_out(container, second(container))),
    plant("a process of the host among the mounts", "linux.cgroupsPath", |container| {
        enters(Intruder::new(container).without_cgroup())
    }),
    // Parameters.
    plant("a parameter of the network", "linux.sysctl.net.ipv4.ip_forward", |container| {
        sysctl(container, "sys/net/ipv4/ip_forward", b"0")
    }),
    plant("a parameter of ipc", "linux.sysctl.kernel.shm_rmid_forced", |container| {
        sysctl(container, "sys/kernel/shm_rmid_forced", b"0")
    }),
    plant("another host name", "hostname", |container| sysctl(container, "sys/kernel/hostname", b"other")),
    // Processes that came past the runtime.
    plant("more capabilities may be had", "process.capabilities.bounding", |container| {
        enters(Intruder::new(container))
    }),
    plant("more capabilities count", "process.capabilities.effective", |container| enters(Intruder::new(container))),
    plant("more capabilities are permitted", "process.capabilities.permitted", |container| {
        enters(Intruder::new(container))
    }),
    plant("no filter", "linux.seccomp", |container| enters(Intruder::new(container).without_capabilities())),
    plant("new privileges", "process.noNewPrivileges", |container| enters(Intruder::new(container))),
    plant("the host's network", "linux.namespaces", |container| {
        enters(Intruder::new(container).without_capabilities().outside("net"))
    }),
    plant("the host's processes", "linux.namespaces", |container| {
        enters(Intruder::new(container).without_capabilities().outside("pid"))
    }),
    plant("the host's ipc", "linux.namespaces", |container| {
        enters(Intruder::new(container).without_capabilities().outside("ipc"))
    }),
    plant("the host's name", "linux.namespaces", |container| {
        enters(Intruder::new(container).without_capabilities().outside("uts"))
    }),
    plant("the host's mounts", "linux.namespaces", |container| {
        enters(Intruder::new(container).without_capabilities().outside("mnt"))
    }),
    plant("a network of nobody's", "linux.namespaces", |container| {
        vec![Intruder::new(container).enter_and(|| {
            // SAFETY: no memory is passed.
            exits_unless(unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0);
        })]
    }),
    plant("a directory of the host is the working one", "process.cwd", |container| with_hosts_root(container, false)),
    plant("the host's root is the root", "root.path", |container| with_hosts_root(container, true)),
    plant("another user", "process.user.uid", |container| with_ids(container, 1000, 0, 7)),
    plant("another group", "process.user.gid", |container| with_ids(container, 0, 1000, 7)),
    plant("one more group", "process.user.additionalGids", |container| with_ids(container, 0, 0, 8)),
    // What is set of its own processes.
    plant("init is spared by the OOM killer", "process.oomScoreAdj", |container| adjusts(container, container.pid())),
    plant("a process is spared by the OOM killer", "process.oomScoreAdj", |container| {
        adjusts(container, second(container))
    }),
    plant("init comes before others", "process.scheduler", lowers_nice),
    // On v1, a cgroup has a share of real time, and none at first.
    where_it(on_v2, plant("a process is real-time", "process.scheduler", becomes_real_time)),
    where_it(can_raise_limits, plant("a limit is higher", "process.rlimits", raises_limit)),
];
