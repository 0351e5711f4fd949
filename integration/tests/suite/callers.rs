//! Callers that are odd: what a process inherits of its maker, and what of it may change a container.

use super::exec::{exec, running};
use super::inject::traced;
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, DEADLINE, path, wait};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

tests![
    a_caller_that_ignores_its_children_hears_how_they_end,
    what_a_caller_ignores_and_blocks_reaches_nobody,
    what_is_made_has_its_mode_whatever_the_umask,
    hooks_have_the_umask_of_the_caller,
    a_pid_file_replaces_nothing_but_a_file,
    a_limit_on_the_size_of_files_undoes_what_was_begun,
    streams_that_are_closed_are_taken_for_nothing_else,
    a_working_directory_that_is_gone_is_not_needed,
    a_kernel_that_executes_nothing_in_memory_runs_containers,
    only_a_command_that_enters_a_container_replaces_itself,
];

/// A change of what the runtime inherits: a system call's result.
fn done(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores what would tell of children, of readers that are gone, and of the end; and blocks the rest.
fn ignore_and_block() -> io::Result<()> {
    for signal in [libc::SIGCHLD, libc::SIGPIPE, libc::SIGUSR1, libc::SIGHUP] {
        // SAFETY: no handler, hence no code.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: a set that was filled, and no old one.
    done(unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())
    })
}

fn with_umask(call: Call, mask: libc::mode_t) -> Call {
    call.inheriting(move || {
        // SAFETY: takes a number.
        unsafe { libc::umask(mask) };
        Ok(())
    })
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

fn a_caller_that_ignores_its_children_hears_how_they_end() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(exit 7));
    let output = bundle.call("run").inheriting(ignore_and_block).run();
    assert_eq!((output.status, output.stderr.as_str()), (7, ""));
    let container = running(Bundle::new());
    let output = exec(&container, &[], probe!(exit 9)).inheriting(ignore_and_block).run();
    assert_eq!((output.status, output.stderr.as_str()), (9, ""));
    for kind in ["createRuntime", "createContainer"] {
        let bundle = Bundle::new().hook(kind, json!({ "path": "/bin/true" })).write(probe!(print "x"));
        bundle.call("run").inheriting(ignore_and_block).run().ok();
        let bundle = Bundle::new().hook(kind, json!({ "path": "/bin/false" })).write(probe!(print "x"));
        bundle.call("run").inheriting(ignore_and_block).run().fails("exit status 1");
    }
}

/// The program, and each hook; and the runtime itself, which SIGTERM ends though its caller has blocked it.
fn what_a_caller_ignores_and_blocks_reaches_nobody() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(status "SigIgn"; status "SigBlk"));
    // The probe ignores SIGPIPE itself, as every program in Rust.
    let nothing = ["0000000000001000", "0000000000000000"];
    assert_eq!(bundle.call("run").inheriting(ignore_and_block).run().ok().answers(), nothing);
    let container = running(Bundle::new());
    let exec = exec(&container, &[], probe!(status "SigIgn"; status "SigBlk")).inheriting(ignore_and_block);
    assert_eq!(exec.run().ok().answers(), nothing);
    let bundle = Bundle::new();
    let mark = bundle.dir.join("mark");
    let script = format!("grep -h Sig[BI] /proc/self/status > {}; sleep 60", mark.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 15 });
    let bundle = bundle.hook("createRuntime", hook).write(probe!(print "x"));
    let mut creating = bundle.call("create").inheriting(ignore_and_block).spawn();
    eventually("the hook", || {
        fs::read_to_string(&mark).is_ok_and(|text| text.ends_with("SigIgn:\t0000000000000000\n"))
    });
    assert_eq!(fs::read_to_string(&mark).expect("mark").matches("0000000000000000").count(), 2);
    host::signal(creating.child.id(), libc::SIGTERM);
    assert_eq!(creating.finish().status, 128 + libc::SIGTERM);
    Call::new(["delete", "--force", &bundle.id]).as_user(bundle.as_user()).run().ok();
}

/// A caller whose files are nobody else's, and one who does not care; and the container's own mask in both.
fn what_is_made_has_its_mode_whatever_the_umask() {
    need_ocirt();
    need_root();
    for mask in [0o077, 0o777, 0] {
        let pid_file = host::place().join(format!("pid{mask}"));
        let bundle = Bundle::new().set("process.cwd", json!("/made/cwd"));
        let source = bundle.host_dir("source");
        let bundle = bundle.mount("bind", source.to_str().expect("UTF-8"), "/point/of/mount", &["bind"]);
        let device = json!({ "path": "/dev/sub/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 });
        let bundle = bundle.push("linux.devices", device).flags(&["--pid-file", pid_file.to_str().expect("UTF-8")]);
        let bundle = bundle.write(probe!(sleep 60));
        let root = host::place().join(format!("root{mask}/below"));
        with_umask(bundle.call("create").root(Some(root.clone())), mask).run().ok();
        for directory in ["made", "made/cwd", "point", "point/of"] {
            assert_eq!(mode(&bundle.inside(directory)), 0o755, "{directory} under {mask:o}");
        }
        assert_eq!(mode(&pid_file), 0o644, "pid file under {mask:o}");
        for directory in [root.parent().expect("parent"), &root, &root.join(&bundle.id)] {
            assert_eq!(mode(directory), 0o700, "{} under {mask:o}", directory.display());
        }
        for file in ["state.json", "exec.json", "gate"] {
            assert_eq!(mode(&root.join(&bundle.id).join(file)), 0o600, "{file} under {mask:o}");
        }
        let cgroups = host::cgroups(&bundle.id);
        assert!(!cgroups.is_empty());
        for cgroup in cgroups {
            assert_eq!(mode(&cgroup), 0o755, "{} under {mask:o}", cgroup.display());
        }
        let state = call_at(&root, ["state", &bundle.id]).run().ok().json();
        let inside = PathBuf::from(format!("/proc/{}/root", state["pid"]));
        for (path, expected) in [("dev/null", 0o666), ("dev/sub/null", 0o666), ("dev/sub", 0o755)] {
            assert_eq!(mode(&inside.join(path)), expected, "{path} under {mask:o}");
        }
        let umask = fs::read_to_string(format!("/proc/{}/status", state["pid"])).expect("status");
        assert!(umask.contains("Umask:\t0022"), "{umask}");
        call_at(&root, ["delete", "--force", &bundle.id]).run().ok();
    }
}

fn call_at<const N: usize>(root: &Path, words: [&str; N]) -> Call {
    Call::new(words).root(Some(root.to_owned()))
}

/// As runc has it: those of the container's own side once it has its mask have that one.
fn hooks_have_the_umask_of_the_caller() {
    need_ocirt();
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let mut bundle = Bundle::new();
    let marks = bundle.host_dir("marks");
    for kind in kinds {
        let script = format!("umask > {}/{kind}", marks.display());
        bundle = bundle.hook(kind, json!({ "path": "/bin/sh", "args": ["sh", "-c", script] }));
    }
    let bundle = bundle.write(probe!(print "x"));
    with_umask(bundle.call("run"), 0o037).run().ok();
    for kind in kinds {
        assert_eq!(fs::read_to_string(marks.join(kind)).expect("mark"), "0037\n", "{kind}");
        assert_eq!(mode(&marks.join(kind)), 0o640, "{kind}");
    }
}

/// A device, a socket, a FIFO, a directory, whoever the caller is; a symlink is no more than a name.
fn a_pid_file_replaces_nothing_but_a_file() {
    need_ocirt();
    need_root();
    let place = host::place().join("special");
    fs::create_dir(&place).expect("directory");
    let node = |name: &str, kind: libc::mode_t| {
        let path = std::ffi::CString::new(place.join(name).to_str().expect("UTF-8")).expect("no NUL");
        // SAFETY: a NUL-terminated path. The device is a null device like /dev/null.
        done(unsafe { libc::mknod(path.as_ptr(), kind | 0o666, libc::makedev(1, 3)) }).expect("mknod");
    };
    node("device", libc::S_IFCHR);
    node("fifo", libc::S_IFIFO);
    drop(UnixListener::bind(place.join("socket")).expect("socket"));
    fs::create_dir(place.join("directory")).expect("directory");
    let container = running(Bundle::new());
    for name in ["device", "fifo", "socket", "directory"] {
        let path = place.join(name);
        let kind = || fs::symlink_metadata(&path).expect("still there").file_type();
        let before = (kind(), fs::symlink_metadata(&path).expect("there").ino());
        let flags = ["--pid-file", path.to_str().expect("UTF-8")];
        let bundle = Bundle::new().flags(&flags).write(probe!(print "it ran"));
        for command in ["create", "run"] {
            let output = bundle.call(command).run().fails("--pid-file");
            assert!(output.stderr.contains("not a regular file") && !output.stdout.contains("it ran"), "{output:?}");
        }
        let output = exec(&container, &flags, probe!(print "it ran")).run();
        assert!(output.status == 255 && output.stderr.contains("not a regular file"), "{output:?}");
        assert!(output.stdout.is_empty(), "it is refused before anything runs");
        assert_eq!((kind(), fs::symlink_metadata(&path).expect("there").ino()), before, "{name}");
    }
    assert!(fs::symlink_metadata(place.join("device")).expect("device").file_type().is_char_device());
    let left: Vec<_> = fs::read_dir(&place).expect("directory").collect();
    assert_eq!(left.len(), 4, "nothing lies beside them");
}

/// SIGXFSZ would end the runtime in the middle, with all that it has made. The container's program hears it again.
fn a_limit_on_the_size_of_files_undoes_what_was_begun() {
    need_ocirt();
    let limited = |call: Call, bytes: u64| {
        call.inheriting(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: a whole struct, for the time of the call.
            done(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) })
        })
    };
    let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/bin/true" })).write(probe!(status "SigIgn"));
    for bytes in [0, 1, 100, 700] {
        let mut output = limited(bundle.call("create"), bytes).spawn();
        let status = wait(&mut output.child, DEADLINE).expect("it ends");
        assert_eq!(status.code(), Some(1), "{bytes}: {status}");
        host::assert_nothing_left();
    }
    // Enough for all files of the runtime.
    let output = limited(bundle.call("run"), 1 << 24).run().ok();
    assert_eq!(output.answer(), "0000000000001000", "SIGPIPE, which the probe ignores itself");
}

/// Of the runtime's own files none may become the container's standard output, nor take what is written there.
fn streams_that_are_closed_are_taken_for_nothing_else() {
    need_ocirt();
    for closed in [&[0][..], &[1], &[2], &[0, 1], &[0, 1, 2]] {
        let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/bin/cat" })).write(probe!(sleep 60));
        let shut = closed.to_vec();
        bundle
            .call("create")
            .inheriting(move || {
                // SAFETY: takes a number; the runtime is to find it closed.
                shut.iter().for_each(|fd| assert_eq!(unsafe { libc::close(*fd) }, 0));
                Ok(())
            })
            .run()
            .ok();
        let state = Call::new(["state", &bundle.id]).as_user(bundle.as_user()).run().ok().json();
        for fd in closed {
            let link = fs::read_link(format!("/proc/{}/fd/{fd}", state["pid"])).expect("open");
            assert_eq!(link, Path::new("/dev/null"), "{closed:?}");
        }
        Call::new(["start", &bundle.id]).as_user(bundle.as_user()).run().ok();
        Call::new(["delete", "--force", &bundle.id]).as_user(bundle.as_user()).run().ok();
    }
}

fn a_working_directory_that_is_gone_is_not_needed() {
    need_ocirt();
    let gone = host::place().join("gone");
    let gone = std::ffi::CString::new(gone.to_str().expect("UTF-8")).expect("no NUL");
    let in_it = |call: Call| {
        let gone = gone.clone();
        call.inheriting(move || {
            // SAFETY: NUL-terminated paths.
            unsafe {
                done(libc::mkdir(gone.as_ptr(), 0o777))?;
                done(libc::chdir(gone.as_ptr()))?;
                done(libc::rmdir(gone.as_ptr()))
            }
        })
    };
    let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/bin/true" })).write(probe!(cwd));
    assert_eq!(in_it(bundle.call("run")).run().ok().answer(), "/");
    let container = running(Bundle::new());
    assert_eq!(in_it(exec(&container, &[], probe!(cwd))).run().ok().answer(), "/");
}

/// vm.memfd_noexec=1 and 2, which belong to a pid namespace: a user whose runtime is his own file copies it, and hooks read
/// their state from a file in memory.
fn a_kernel_that_executes_nothing_in_memory_runs_containers() {
    need_ocirt();
    need(Need::MemfdNoexec, Path::new("/proc/sys/vm/memfd_noexec").exists());
    need_root();
    // systemd would be in another pid namespace.
    need(Need::Cgroupfs, !host::all_with_systemd());
    let own = host::place().join("own-ocirt");
    fs::copy(path(), &own).expect("a copy");
    std::os::unix::fs::chown(&own, Some(user::USER), Some(user::USER)).expect("chown");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).expect("chmod");
    for setting in [1, 2] {
        for rootless in [true, false] {
            let bundle = if rootless { Bundle::new().rootless(user::one_id()) } else { Bundle::new() };
            let bundle = bundle.hook("createRuntime", json!({ "path": "/bin/cat" }));
            let bundle = bundle.write(probe!(print "it ran"));
            let program = if rootless { own.clone() } else { path() };
            let script = host::place().join(format!("noexec-{setting}-{rootless}"));
            let become_user = if rootless {
                format!("setpriv --reuid {0} --regid {0} --clear-groups", user::USER)
            } else {
                String::new()
            };
            let text = format!(
                "#!/bin/sh\nexec unshare --pid --fork --mount-proc sh -c 'echo {setting} > /proc/sys/vm/memfd_noexec || exit 9; exec {become_user} {} \"$@\"' sh \"$@\"\n",
                program.display()
            );
            fs::write(&script, text).expect("script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("chmod");
            let root = host::place().join(format!("root-{setting}-{rootless}"));
            fs::create_dir(&root).expect("root directory");
            for path in [host::place(), &root].into_iter().filter(|_| rootless) {
                std::os::unix::fs::chown(path, Some(user::USER), Some(user::USER)).expect("chown");
            }
            let call = bundle.call("run").as_user(false).program(&script).root(Some(root));
            assert_eq!(call.run().ok().answer(), "it ran", "vm.memfd_noexec={setting}, rootless: {rootless}");
        }
    }
}

/// `run` as the name of a container is no command.
fn only_a_command_that_enters_a_container_replaces_itself() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let executions = |call: fn() -> Call| {
        let (program, trace) = traced("-f -e trace=execve,execveat");
        call().traced(&program).run();
        let text = fs::read_to_string(trace).expect("trace");
        text.lines().filter(|line| line.contains("exec") && line.ends_with(" = 0")).count()
    };
    for call in [
        || Call::new(["state", "run"]),
        || Call::new(["kill", "exec", "TERM"]),
        || Call::new(["delete", "--force", "create"]),
        || Call::new(["list"]).global(["--log-level", "error"]),
    ] {
        assert_eq!(executions(call), 1);
    }
    if !user::has_suite() {
        // The binary of the tests lies on a filesystem that is not read-only.
        assert_eq!(executions(|| Call::new(["exec", "no-such-container", "x"])), 2);
        assert_eq!(executions(|| Call::new(["exec", "--user", "0", "no-such-container", "x"])), 2);
    }
}
