//! The static guest of every test: says what it sees and what it may do.
//!
//! `probe VERB ARG… + VERB ARG… + …` runs the verbs in order and prints one JSON value a line; a refusal is
//! `{"error": "EPERM"}`, so that a test can claim the errno. What is not a number or a list is printed as text.

#![allow(
    clippy::disallowed_methods,
    reason = "rules of the runtime; a test process and its guest exit and spawn as they like"
)]

mod answer;
mod cgroups;
mod files;
mod fuse;
mod network;
mod output;
mod process;
mod table;
mod watch;
mod work;

use answer::Answer;
use serde_json::json;
use std::io::{self, Write};

fn main() {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    for action in arguments.split(|word| word == "+") {
        let Some((verb, rest)) = action.split_first() else { continue };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let answer = match act(verb, &rest) {
            Ok(value) => value,
            Err(error) => json!({ "error": table::errno_name(&error) }),
        };
        // A closed stdout is what some tests make; the exit status still speaks.
        let _ = writeln!(io::stdout(), "{answer}");
    }
}

/// Runs one verb. Verbs that read are in `files`, those about the process itself in `process`, those that take their time in `work`.
fn act(verb: &str, arguments: &[&str]) -> Answer {
    let at = |index: usize| arguments.get(index).copied().unwrap_or("");
    match verb {
        "read" => files::read(at(0)),
        "readlink" => Ok(json!(std::fs::read_link(at(0))?.to_string_lossy())),
        "write" => files::write(at(0), at(1)),
        "openw" => files::open_for_writing(at(0)),
        "open" => files::open(at(0)),
        "ls" => files::list(at(0)),
        "stat" => files::stat(at(0)),
        "mkdir" => std::fs::create_dir(at(0)).map(|()| json!("ok")),
        "touch" => std::fs::File::create(at(0)).map(|_| json!("ok")),
        "mknod" => files::mknod(at(0), at(1), at(2), at(3)),
        "chown" => std::os::unix::fs::lchown(at(0), at(1).parse().ok(), at(2).parse().ok()).map(|()| json!("ok")),
        "atime" => files::atime_after_read(at(0)),
        "mounts" => files::mounts(None),
        "mountof" => files::mounts(Some(at(0))),
        "mount" => files::mount(at(0), at(1), at(2), at(3)),
        "umount" => files::umount(at(0)),
        "statfs" => files::statfs(at(0)),
        "id" => process::ids(),
        "caps" => process::capabilities(),
        "rlimits" => process::rlimits(),
        "status" => process::status_field(at(0)),
        "env" => Ok(std::env::vars().map(|(key, value)| (key, json!(value))).collect()),
        "args" => Ok(json!(std::env::args().collect::<Vec<_>>())),
        "cwd" => process::cwd(),
        "chdir" => std::env::set_current_dir(at(0)).map(|()| json!("ok")),
        "ns" => process::namespaces(),
        "fds" => process::descriptors(),
        "call" => process::system_call(arguments),
        "uname" => process::uname(),
        "sethostname" => process::set_host_name(at(0)),
        "keyring" => process::session_keyring(),
        "personality" => process::personality(),
        "scheduler" => process::scheduler(),
        "ioprio" => process::io_priority(),
        "mempolicy" => process::memory_policy(),
        "clocks" => process::clocks(),
        "session" => process::session(),
        "tty" => process::terminal(),
        "notify" => network::notify(at(0)),
        "serve" => network::serve(),
        "netdevs" => network::devices(),
        "forks" => work::forks(at(0)),
        "flood" => output::flood(at(0)),
        "orphans" => output::orphans(at(0)),
        "eat" => work::eat(at(0)),
        "cache" => work::cache(at(0), at(1)),
        "eatchild" => work::child_eats(at(0)),
        "burn" => work::burn(at(0)),
        "spawn" => work::spawn_sleeper(at(0)),
        "churn" => cgroups::churn(at(0), at(1)),
        "nest" => cgroups::nest(at(0), at(1), at(2), arguments.get(3..).unwrap_or_default()),
        "exec" => work::exec(arguments),
        "stdin" => Ok(json!(io::read_to_string(io::stdin())?)),
        "print" => Ok(json!(at(0))),
        "eprint" => Ok(json!(writeln!(io::stderr(), "{}", at(0)).is_ok())),
        "snoop" => work::snoop(at(0)),
        "stopearly" => watch::stop_early(at(0), at(1)),
        "limitearly" => watch::limit_early(at(0), at(1)),
        "watch" => watch::watch(arguments),
        "seize" => watch::seize(at(0)),
        "sleep" => work::sleep(at(0)),
        "tick" => work::tick(at(0)),
        "count" => work::count(at(0)),
        "keyringcount" => work::count_keyring(at(0)),
        "bindcount" => work::count_bound(at(0), at(1), at(2), at(3)),
        "hold" => work::hold(at(0), at(1)),
        "fuseserve" => fuse::serve(at(0)),
        "fusehang" => fuse::hang(at(0), at(1)),
        "fusehold" => fuse::hold(at(0)),
        "fusetell" => fuse::tell(at(0)),
        "endfirst" => work::end_first_thread(),
        "waitfor" => files::wait_for(at(0)),
        "sigwait" => work::sigwait(),
        "raise" => work::raise(at(0)),
        "exit" => std::process::exit(at(0).parse().unwrap_or(0)),
        "hook" => process::hook(arguments),
        other => Ok(json!({ "error": format!("no verb {other}") })),
    }
}
