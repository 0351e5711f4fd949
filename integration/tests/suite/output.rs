//! What the commands print, which is what engines parse: state, list, ps, version, features, spec, and the flags.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call, kind, path};
use ocirt_integration::{fixtures, host, probe, terminal, tests, user};
use serde_json::{Value, json};

tests![
    state_has_the_fields_engines_read,
    list_is_a_table,
    list_is_json,
    list_quiet_is_ids,
    list_survives_what_is_no_container,
    ps_lists_the_processes,
    ps_takes_arguments_for_ps,
    the_version_has_the_lines_engines_parse,
    called_as_runc_the_version_says_runc,
    features_are_json,
    features_name_what_the_specification_names,
    spec_makes_a_config_that_runs,
    spec_does_not_overwrite,
    flags_work_in_each_spelling,
    a_flag_given_twice_takes_the_last,
    global_flags_of_engines_are_accepted,
    help_is_printed,
    the_first_example_of_the_help_works_as_it_stands,
    the_root_directory_is_made_private,
    the_default_root_is_used,
];

fn running() -> Container {
    let container =
        Bundle::new().set("annotations", json!({ "org.example.b": "2", "org.example.a": "" })).create(probe!(sleep 60));
    container.start().ok();
    container
}

fn state_has_the_fields_engines_read() {
    let container = running();
    let output = call(["state", container.id()]).ok();
    let state = output.json();
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")));
    assert_eq!((&state["id"], &state["status"]), (&json!(container.id()), &json!("running")));
    assert_eq!(state["bundle"], container.bundle.dir.to_str().expect("UTF-8"));
    assert_eq!(state["rootfs"], container.bundle.rootfs().to_str().expect("UTF-8"));
    assert_eq!(state["annotations"], json!({ "org.example.a": "", "org.example.b": "2" }));
    assert!(state["owner"].is_string());
    assert!(Path::new(&format!("/proc/{}", state["pid"])).exists());
    let created = state["created"].as_str().expect("created");
    assert!(created.ends_with('Z') && created.as_bytes()[10] == b'T' && created.contains('.'), "{created}");
    assert!(output.stdout.starts_with("{\n  \"ociVersion\""), "{}", output.stdout);
    // Without annotations runc leaves the field out; an engine reads both alike.
    let bare = Bundle::new().create(probe!(sleep 60)).state();
    assert!(bare["annotations"].is_null() || bare["annotations"] == json!({}));
}

/// Whoever calls the runtime.
fn owner() -> &'static str {
    if user::has_suite() { "tester" } else { "root" }
}

fn list_is_a_table() {
    let empty = call(["list"]).ok();
    let words: Vec<_> = empty.stdout.split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let container = running();
    let table = call(["list"]).ok();
    let row: Vec<_> = table.stdout.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..3], [container.id(), &container.pid().to_string(), "running"]);
    assert_eq!((row[3], row[5]), (container.bundle.dir.to_str().expect("UTF-8"), owner()));
    // Columns line up, as in runc's table.
    let (head, line) = (table.stdout.lines().next().expect("a head"), table.stdout.lines().nth(1).expect("a row"));
    assert_eq!(head.find("STATUS"), line.find("running"));
    assert_eq!(call(["list", "--format", "table"]).ok().stdout, table.stdout);
}

fn list_is_json() {
    assert_eq!(call(["list", "--format", "json"]).ok().stdout.trim(), "null");
    let (one, two) = (running(), running());
    let list = call(["list", "-f", "json"]).ok().json();
    let all = list.as_array().expect("a list");
    assert_eq!(all.len(), 2);
    for container in [one, two] {
        let mut state = container.state();
        let entry = all.iter().find(|entry| entry["id"] == container.id()).expect("an entry").clone();
        state["owner"] = entry["owner"].clone();
        assert_eq!((&entry, &entry["owner"]), (&state, &json!(owner())));
    }
    call(["list", "--format", "yaml"]).fails("format");
}

fn list_quiet_is_ids() {
    assert_eq!(call(["list", "-q"]).ok().stdout, "");
    let container = running();
    for flag in ["-q", "--quiet", "-quiet"] {
        assert_eq!(call(["list", flag]).ok().stdout, format!("{}\n", container.id()));
    }
}

fn list_survives_what_is_no_container() {
    let container = running();
    std::fs::create_dir(host::root().join("empty")).expect("directory");
    std::fs::write(host::root().join("file"), "").expect("file");
    let output = call(["list", "-q"]).ok();
    std::fs::remove_dir(host::root().join("empty")).expect("directory");
    std::fs::remove_file(host::root().join("file")).expect("file");
    assert!(output.stdout.lines().any(|line| line == container.id()), "{output:?}");
}

fn ps_lists_the_processes() {
    let container = Bundle::new().create(probe!(spawn 60; sleep 60));
    container.start().ok();
    container.answers(1);
    let list = call(["ps", "--format", "json", container.id()]).ok().json();
    let pids: Vec<_> = list.as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&u64::from(container.pid())));
    let table = call(["ps", container.id()]).ok().stdout;
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|head| head.contains("PID") && head.contains("CMD")), "the table is {table}");
    let rows: Vec<_> = lines.collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.contains("sleep")), "the table is {table}");
}

fn ps_takes_arguments_for_ps() {
    let container = running();
    let table = call(["ps", container.id(), "-e", "-o", "pid,comm"]).ok().stdout;
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PID", "COMMAND"]);
    assert_eq!(rows[1..], [[container.pid().to_string().as_str(), "probe"]]);
}

fn the_version_has_the_lines_engines_parse() {
    for flag in ["--version", "-v"] {
        let output = Call::new([flag]).root(None).run().ok();
        let mut lines = output.stdout.lines();
        let first: Vec<_> = lines.next().expect("a line").split(' ').collect();
        assert_eq!((first[0], first[1]), (kind().as_str(), "version"));
        assert!(lines.clone().any(|line| line.starts_with("commit: ")), "{}", output.stdout);
        let spec = lines.find_map(|line| line.strip_prefix("spec: ")).expect("a spec line").to_owned();
        assert!(spec.starts_with("1."), "{spec}");
    }
}

/// go-runc takes nothing but `runc version `.
fn called_as_runc_the_version_says_runc() {
    need_ocirt();
    let link = host::place().join("runc");
    std::os::unix::fs::symlink(path(), &link).expect("symlink");
    let output = Call::new(["--version"]).root(None).program(&link).run().ok();
    assert!(output.stdout.starts_with("runc version "), "{}", output.stdout);
}

fn features_name_what_the_specification_names() {
    need_ocirt();
    let words = fixtures::words();
    let features = call(["features"]).ok().json();
    let sorted = |list: &Value| {
        let mut words: Vec<String> = list.as_array().into_iter().flatten().map(|word| word.to_string()).collect();
        words.sort();
        words
    };
    for (field, definition) in [
        ("/linux/namespaces", "NamespaceType"),
        ("/linux/seccomp/actions", "SeccompAction"),
        ("/linux/seccomp/operators", "SeccompOperators"),
        ("/linux/seccomp/knownFlags", "SeccompFlag"),
        ("/linux/seccomp/supportedFlags", "SeccompFlag"),
        ("/linux/memoryPolicy/modes", "MemoryPolicyMode"),
        ("/linux/memoryPolicy/flags", "MemoryPolicyFlag"),
    ] {
        let listed = features.pointer(field).unwrap_or(&Value::Null);
        assert_eq!(sorted(listed), sorted(&words[definition]), "{field}");
    }
    // Of architectures, only those with this machine's byte order and a table of system calls.
    let known = sorted(&words["SeccompArch"]);
    let archs = sorted(&features["linux"]["seccomp"]["archs"]);
    assert!(archs.len() > 5 && archs.iter().all(|arch| known.contains(arch)), "{archs:?}");
    for field in [
        "intelRdt/enabled",
        "intelRdt/schemata",
        "intelRdt/monitoring",
        "netDevices/enabled",
        "apparmor/enabled",
        "selinux/enabled",
        "mountExtensions/idmap/enabled",
        "cgroup/v1",
        "cgroup/v2",
        "cgroup/systemd",
        "cgroup/systemdUser",
        "cgroup/rdma",
    ] {
        assert_eq!(features.pointer(&format!("/linux/{field}")), Some(&json!(true)), "{field}");
    }
}

fn features_are_json() {
    let features = call(["features"]).ok().json();
    let has = |field: &str, word: &str| {
        let list =
            features.pointer(field).and_then(Value::as_array).unwrap_or_else(|| panic!("no {field} in {features}"));
        list.iter().any(|item| item == word)
    };
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(has("/hooks", hook));
    }
    // containerd takes recursive read-only mounts from this.
    assert!(has("/mountOptions", "rro") && has("/mountOptions", "bind"));
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has("/linux/namespaces", namespace));
    }
    assert!(has("/linux/capabilities", "CAP_SYS_ADMIN") && has("/linux/seccomp/actions", "SCMP_ACT_ERRNO"));
    assert!(has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ") && has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"));
    assert_eq!(
        (&features["linux"]["seccomp"]["enabled"], &features["linux"]["cgroup"]["v1"]),
        (&json!(true), &json!(true))
    );
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
}

fn spec_makes_a_config_that_runs() {
    let bundle = Bundle::new();
    user::give_in_suite(&bundle.dir);
    let rootless = user::has_suite().then_some("--rootless");
    Call::new(["spec"].into_iter().chain(rootless)).cwd(&bundle.dir).run().ok();
    let file = bundle.dir.join("config.json");
    let mut spec: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("config.json")).expect("JSON");
    assert_eq!(
        (&spec["process"]["args"], &spec["root"]["path"], &spec["process"]["terminal"]),
        (&json!(["sh"]), &json!("rootfs"), &json!(true))
    );
    spec["process"]["args"] = json!(["/probe", "print", "here"]);
    spec["process"]["terminal"] = json!(false);
    // A limit above the machine's needs CAP_SYS_RESOURCE.
    spec["process"].as_object_mut().expect("process").remove("rlimits");
    std::fs::write(&file, spec.to_string()).expect("config.json");
    assert_eq!(bundle.call("run").run().ok().answer(), "here");
    let other = bundle.host_dir("other");
    call(["spec", "--bundle", other.to_str().expect("UTF-8")]).ok();
    assert!(other.join("config.json").exists());
}

fn spec_does_not_overwrite() {
    let directory = host::place().join("spec");
    std::fs::create_dir_all(&directory).expect("directory");
    std::fs::write(directory.join("config.json"), "mine").expect("file");
    Call::new(["spec"]).cwd(&directory).run().fails("exist");
    assert_eq!(std::fs::read_to_string(directory.join("config.json")).expect("file"), "mine");
}

fn flags_work_in_each_spelling() {
    let rows: [&[&str]; 8] = [
        &["run", "--bundle", "DIR", "ID"],
        &["run", "--bundle=DIR", "ID"],
        &["run", "-bundle", "DIR", "ID"],
        &["run", "-bundle=DIR", "ID"],
        &["run", "-b", "DIR", "ID"],
        &["run", "-no-subreaper", "-b", "DIR", "ID"],
        &["run", "--no-new-keyring", "-no-pivot", "--bundle", "DIR", "ID"],
        &["run", "--keep=false", "--bundle", "DIR", "ID"],
    ];
    for row in rows {
        let bundle = Bundle::new().write(probe!(print "ran"));
        let directory = bundle.dir.to_str().expect("UTF-8");
        let words = row.iter().map(|word| word.replace("DIR", directory).replace("ID", &bundle.id));
        assert_eq!(Call::new(words).run().ok().answer(), "ran", "{row:?}");
    }
}

fn a_flag_given_twice_takes_the_last() {
    let bundle = Bundle::new().write(probe!(print "ran"));
    let directory = bundle.dir.to_str().expect("UTF-8");
    let output = call(["run", "--bundle", "/nowhere", "--no-pivot", "--no-pivot", "--bundle", directory, &bundle.id]);
    assert_eq!(output.ok().answer(), "ran");
    let other = host::place().join("other");
    let output =
        Call::new(["list", "-q"]).global(["--debug", "--debug", "--root", other.to_str().expect("UTF-8")]).run().ok();
    assert_eq!(output.stdout, "");
}

fn global_flags_of_engines_are_accepted() {
    let log = host::place().join("log");
    let log = log.to_str().expect("UTF-8");
    for flags in [
        &["--systemd-cgroup=false"][..],
        &["--rootless", "false"],
        &["--rootless=auto"],
        &["--log", log, "--log-format", "json", "--debug"],
        &["--log-format", "text"],
    ] {
        let output = Call::new(["list", "-q"]).global(flags.iter().copied()).run();
        assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{flags:?}: {}", output.stderr);
    }
}

fn help_is_printed() {
    for words in [&["--help"][..], &["-h"], &["help"], &["run", "--help"], &["create", "-h"]] {
        let output = Call::new(words.iter().copied()).run().ok();
        assert!(output.stdout.to_lowercase().contains("usage"), "{words:?}: {}", output.stdout);
    }
}

/// Word for word, but for the name of the container, which other runs may have as well.
fn the_first_example_of_the_help_works_as_it_stands() {
    need_ocirt();
    need_root();
    need(Need::Busybox, Path::new("/bin/busybox").exists());
    let help = call(["--help"]).ok().stdout;
    let lines = help.lines().skip_while(|line| !line.starts_with("    "));
    let example: Vec<&str> = lines.take_while(|line| line.starts_with("    ")).collect();
    assert!(example.len() > 2 && example.iter().any(|line| line.contains("ocirt run web1")), "{help}");
    let id = host::new_id();
    let directory = host::place().join("example");
    std::fs::create_dir(&directory).expect("directory");
    let (mut master, slave) = terminal::pty(24, 80);
    let stream = || slave.try_clone().expect("descriptor");
    let mut shell = Command::new("sh")
        .args([
            "-euc",
            &format!(
                "ocirt() {{ \"$RUNTIME\" --root \"$ROOT\" \"$@\"; }}\n{}",
                example.join("\n").replace("web1", &id)
            ),
        ])
        .env("RUNTIME", path())
        .env("ROOT", host::root())
        .current_dir(&directory)
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("sh");
    drop(slave);
    master.write_all(b"echo $((6 * 7)); exit 5\n").expect("terminal");
    let text = terminal::read_until(&mut master, |_| false);
    assert_eq!(shell.wait().expect("sh").code(), Some(5), "{text}");
    assert!(text.lines().any(|line| line == "42"), "{text}");
    host::assert_nothing_left();
}

fn the_root_directory_is_made_private() {
    use std::os::unix::fs::MetadataExt;
    let container = running();
    let directory = std::fs::metadata(host::root().join(container.id())).expect("state directory");
    assert_eq!(directory.mode() & 0o077 & !0o011, 0, "{:o}", directory.mode());
}

fn the_default_root_is_used() {
    let directory = host::place().join("xdg");
    std::fs::create_dir_all(&directory).expect("directory");
    let output = Call::new(["list", "-q"]).root(None).env("XDG_RUNTIME_DIR", directory.to_str().expect("UTF-8")).run();
    assert_eq!(output.status, 0, "{}", output.stderr);
    let default = match user::has_suite() {
        true => user::runtime_directory(host::place()).join(kind()),
        false => format!("/run/{}", kind()).into(),
    };
    let bundle = Bundle::new().write(probe!(sleep 60));
    bundle.call("create").root(None).run().ok();
    let there = default.join(&bundle.id).exists();
    Call::new(["delete", "--force", &bundle.id]).root(None).run().ok();
    assert!(there, "no state below {}", default.display());
}
