//! Everything that is parsed, mutated: values exchanged, removed and replaced by others, bytes changed and cut off. What
//! comes of each is a result, or an error of one line that says where; never a panic. The seed is fixed.
//!
//! `OCIRT_HOSTILE=20 cargo test --release -p ocirt --lib hostile_input` tries twenty times as many.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::container::cgroup::Applied;
use crate::container::cgroup::{self, Manager};
use crate::container::checkpoint::outside::HostResources;
use crate::container::checkpoint::request::{Directories, RestoreFlags, Restored};
use crate::container::checkpoint::{flags::CriuFlags, image, request};
use crate::container::hooks::HookDefaults;
use crate::container::{bundle, validate};
use crate::error::Faults;
use crate::lifecycle::{self, Host, Id, Rootless};
use crate::log::Log;
use crate::plan::{self, ExecRequest, Gate, Plan, Request, Saved};
use crate::sys::process;
use crate::trace::Recorder;
use anyhow::Result;
use serde_json::{Value, json};

/// All sections, and most fields, of a configuration that is planned without an error.
const CONFIG: &str = include_str!("hostile_input/config.json");

/// What the error of a configuration begins with, or has behind `config.json: `.
const SECTIONS: [&str; 10] =
    ["ociVersion", "process", "root", "mounts", "hooks", "linux", "annotations", "hostname", "domainname", "line "];

/// xorshift64: the same mutations each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn value(&mut self) -> Value {
        let all = [
            json!(null),
            json!(true),
            json!(-1),
            json!(0),
            json!(1.5),
            json!(1u64 << 32),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(""),
            json!("/"),
            json!("../.."),
            json!("a\u{0}b"),
            json!("line\nbreak"),
            json!("\u{1F980}"),
            json!("x".repeat(5000)),
            json!([]),
            json!({}),
            json!([[[]]]),
            json!({ "": { "": 0 } }),
            json!(vec![0; 300]),
        ];
        all[self.below(all.len())].clone()
    }
}

/// The pointer of each value in `value`.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| places(value, &format!("{at}/{}", escaped(name)), all))
        }
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), all))
        }
        _ => {}
    }
}

/// `original` with one to three values changed.
fn changed(original: &Value, random: &mut Random) -> Vec<u8> {
    let mut value = original.clone();
    for _ in 0..=random.below(3) {
        let mut all = Vec::new();
        places(&value, "", &mut all);
        let [place, other] = [random.below(all.len()), random.below(all.len())].map(|index| all[index].clone());
        let found = value.pointer(&other).cloned().unwrap_or_default();
        let Some(target) = value.pointer_mut(&place) else { continue };
        match (random.below(5), &mut *target) {
            (0, Value::Array(array)) => array.extend(array.first().cloned()),
            (0, Value::Object(object)) => drop(object.insert(found.to_string(), found)),
            (1, Value::Array(array)) => drop(array.pop()),
            (1, Value::Object(object)) => {
                let name = object.keys().next().cloned();
                name.and_then(|name| object.remove(&name));
            }
            (2, _) => *target = found,
            (3, Value::String(text)) => text.insert(0, ['/', '.', '-', '\0', '=', ':', 'é'][random.below(7)]),
            (_, target) => *target = random.value(),
        }
    }
    value.to_string().into_bytes()
}

/// `original` with one to four bytes changed, put in or taken out, or its end cut off.
fn garbled(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut text = original.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len());
        if text.is_empty() {
            break;
        }
        match random.below(4) {
            0 => text[at] = random.below(256) as u8,
            1 => text.insert(at, b"{}[]\",:0-\\"[random.below(10)]),
            2 => drop(text.remove(at)),
            _ if random.below(8) == 0 => text.truncate(at.max(1)),
            _ => text[at] ^= 1 << random.below(8),
        }
    }
    text
}

/// Tries `count` mutations of `original`, half of them of its values and half of its bytes; how many were taken.
fn try_each(
    original: &Value,
    count: usize,
    attempt: impl Fn(&[u8]) -> Result<()>,
    says_where: fn(&str) -> bool,
) -> usize {
    let times = std::env::var("OCIRT_HOSTILE").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let count = count * times;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let text = original.to_string().into_bytes();
    if let Err(error) = attempt(&text) {
        panic!("the original: {error:#}");
    }
    let mut taken = 0;
    for number in 0..count {
        let input = if number % 2 == 0 { changed(original, &mut random) } else { garbled(&text, &mut random) };
        let what = String::from_utf8_lossy(&input).into_owned();
        match catch_unwind(AssertUnwindSafe(|| attempt(&input))) {
            Ok(Ok(())) => taken += 1,
            Ok(Err(error)) => {
                let message = format!("{error:#}");
                // That it becomes one line is the log's part, whatever is quoted in it.
                assert!(!message.is_empty() && says_where(&message), "{message:?} of {what}");
            }
            Err(_) => panic!("a panic, by {what}"),
        }
    }
    assert!(taken > 0 && taken < count, "{taken} of {count}");
    taken
}

fn place() -> PathBuf {
    let place = std::env::temp_dir().join(format!("ocirt-hostile-{}", std::process::id()));
    std::fs::create_dir_all(place.join("rootfs")).unwrap();
    place
}

fn planned(text: &[u8], place: &Path) -> Result<(oci_spec::runtime::Spec, Plan)> {
    let (spec, _) = bundle::parse(text)?;
    validate::validate(&spec, place, &mut Faults::first())?;
    let request = Request {
        id: "test",
        cgroup_manager: Manager::Cgroupfs,
        bundle: place,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        gate: Gate::Socket,
        rootless: || false,
        hook_defaults: &HookDefaults::OfRuntime { umask: 0o022, trace_parent: None },
        floor: None,
        listening: None,
        relays_terminal: false,
        notify: false,
    };
    let plan = plan::create(&spec, &request)?;
    Ok((spec, plan))
}

fn config() -> Value {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // Only cgroup v1 has it.
        config["linux"]["resources"]["memory"].as_object_mut().unwrap().remove("swappiness");
    }
    config
}

/// The configuration, planned.
fn whole() -> (oci_spec::runtime::Spec, Plan) {
    planned(config().to_string().as_bytes(), &place()).unwrap()
}

fn names_a_section(message: &str) -> bool {
    SECTIONS.iter().any(|section| message.starts_with(section)) || message == "not a JSON object"
}

#[test]
fn a_configuration_is_planned_or_refused_by_field() {
    let place = place();
    try_each(&config(), 300, |text| planned(text, &place).map(drop), names_a_section);
}

/// As Docker, Podman and others write them.
#[test]
fn the_configurations_of_engines_are_planned_or_refused_by_field() {
    let place = place();
    let mut planned_ones = 0;
    for (_, mut config) in crate::fixtures::engines() {
        // What is looked at on the host is another test's.
        config["root"]["path"] = json!("rootfs");
        if let Some(namespaces) = config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut) {
            namespaces.iter_mut().filter_map(Value::as_object_mut).for_each(|one| drop(one.remove("path")));
        }
        if planned(config.to_string().as_bytes(), &place).is_ok() {
            planned_ones += 1;
            try_each(&config, 20, |text| planned(text, &place).map(drop), names_a_section);
        }
    }
    assert!(planned_ones > 5, "{planned_ones} configurations are planned at all");
}

/// A file that no test reads would be no fixture.
#[test]
fn every_fixture_is_in_a_list() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let count = |name: &str| std::fs::read_dir(here.join(name)).unwrap().count();
    let extra = std::env::var_os("OCIRT_CONFIGS").map_or(0, |place| std::fs::read_dir(place).unwrap().count());
    assert_eq!(count("engines"), crate::fixtures::engines().len() + crate::fixtures::processes().len() - extra);
    assert_eq!(count("spec"), crate::fixtures::spec().len());
}

fn exec(process: &oci_spec::runtime::Process, saved: &Saved) -> Result<()> {
    validate::check_process(process, &mut Faults::first())?;
    let init: OwnedFd = process::pidfd_open(std::process::id() as i32)?;
    let rootfs = Path::new("/");
    let request = ExecRequest {
        id: "test",
        rootfs,
        init,
        preserve_fds: 0,
        relays_terminal: false,
        is_placed_when_ready: false,
        is_scored_by_runtime: false,
        floor: None,
    };
    plan::exec(process, saved, request).map(drop)
}

#[test]
fn a_process_is_planned_or_refused_by_field() {
    let (spec, plan) = whole();
    let saved = Saved::new(&spec, &plan, true).unwrap();
    let attempt = |text: &[u8]| exec(&bundle::parse_process(text)?.0, &saved);
    try_each(&config()["process"], 250, attempt, |message| {
        ["process", "line ", "not a JSON object", "ociVersion"].iter().any(|word| message.starts_with(word))
    });
}

/// What `create` writes for exec: by then it is the runtime's own, and broken at most.
#[test]
fn what_is_saved_for_exec_is_read_or_refused() {
    let (spec, plan) = whole();
    let saved = serde_json::to_value(Saved::new(&spec, &plan, true).unwrap()).unwrap();
    let attempt = |text: &[u8]| {
        let saved: Saved<'static> = serde_json::from_slice(text)?;
        let mut process = saved.process.clone().into_owned();
        process.set_terminal(None);
        exec(&process, &saved)
    };
    try_each(&saved, 150, attempt, |_| true);
}

#[test]
fn resources_of_an_update_are_compiled_or_refused_by_field() {
    let (_, plan) = whole();
    let attempt = |text: &[u8]| {
        let resources = bundle::parse_resources(text)?;
        cgroup::update::compile(resources, plan.cgroup.paths(), Applied::default()).map(drop)
    };
    let mut resources = config()["linux"]["resources"].clone();
    // Whether they can be had is asked of the cgroup, which is not there.
    resources.as_object_mut().unwrap().remove("cpu");
    try_each(&resources, 600, attempt, |message| {
        let words = ["memory", "cpu", "pids", "blockIO", "devices", "hugepageLimits", "network", "rdma", "unified"];
        words.iter().any(|word| message.contains(word))
            || message.starts_with("line ")
            || message.contains("JSON object")
    });
}

#[test]
fn mounts_for_a_running_container_are_planned_or_refused_by_field() {
    let attempt = |text: &[u8]| plan::mounts::remove(&bundle::parse_mounts(text)?).map(drop);
    try_each(&config()["mounts"], 600, attempt, |message| {
        message.starts_with("mounts")
            || message.starts_with('[')
            || message.starts_with("line ")
            || message.contains("JSON array")
    });
}

#[test]
fn a_checkpoints_files_are_read_or_refused() {
    let points = json!([
        { "at": "/proc", "directory": true },
        { "at": "/etc/hosts", "directory": false, "flags": ["ro"], "external": { "name": "0", "origin": { "mount": "/etc/hosts" } } },
        { "at": "/dev/null", "directory": false, "external": { "name": "1", "origin": { "device": "/dev/null" } } },
    ]);
    try_each(&points, 1000, |text| image::parse(text).map(drop), |_| true);
    let descriptors = json!(["pipe:[1]", "file[1b:3]", "/dev/null"]);
    let attempt = |text: &[u8]| {
        let descriptors: [String; 3] = serde_json::from_slice(text)?;
        let restored = Restored {
            root: Path::new("/root"),
            outside: &HostResources::default(),
            configuration: None,
            sources: &BTreeMap::new(),
            descriptors: &descriptors,
        };
        let directories = Directories { images: 3, work: None };
        request::restore(&CriuFlags::default(), &RestoreFlags::default(), directories, &restored).map(drop)
    };
    try_each(&descriptors, 600, attempt, |_| true);
}

/// What every command reads first.
#[test]
fn a_state_file_is_read_or_refused_by_name() {
    let state = json!({
        "ociVersion": "1.3.0", "id": "web", "phase": "created", "creator": { "pid": 1, "startTime": 7 },
        "init": { "pid": 2147483647, "startTime": 7, "pidfdInode": 9 }, "bundle": "/b", "rootfs": "/b/rootfs",
        "created": "2026-01-01T00:00:00.000000000Z", "annotations": { "a": "b" }, "owner": 0, "ownPidNamespace": true,
        "cgroup": serde_json::to_value(whole().1.cgroup.paths()).unwrap(),
        "startSteps": [{ "index": 1, "field": "", "what": "exec" }],
        "poststop": [{ "path": "/bin/true" }],
    });
    let root = place().join("root");
    let log = Log::console();
    let host = Host {
        root: root.clone(),
        cgroup_manager: Manager::Cgroupfs,
        rootless: Rootless::Auto,
        umask: 0,
        floor: None,
        log: &log,
        recorder: &Recorder::off(),
    };
    std::fs::create_dir_all(root.join("web")).unwrap();
    drop(File::create(root.join("web/exec.json")).unwrap());
    let id = Id::parse("web").unwrap();
    let attempt = |text: &[u8]| {
        std::fs::write(root.join("web/state.json"), text)?;
        lifecycle::state(&host, &id)?;
        lifecycle::ps(&host, &id).map(drop)
    };
    try_each(&state, 600, attempt, |message| !message.is_empty());
}
