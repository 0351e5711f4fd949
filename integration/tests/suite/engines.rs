//! config.json files in the shape of those of Docker, containerd, Podman and Buildah ([`ocirt_integration::fixtures`]): each is
//! planned, and runs where the kernel lets it.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::call;
use ocirt_integration::{fixtures, host, probe, tests};
use serde_json::{Value, json};
use std::path::Path;

tests![configs_of_engines_are_planned, configs_of_engines_run];

/// The engine's configuration around our probe: paths of the engine's machine become paths that are here, and the
/// namespaces of its processes those of `pod`.
pub fn adjusted(engine: &Value, pod: u32) -> Bundle {
    let bundle = Bundle::new();
    let (file, directory) = (bundle.dir.join("file"), bundle.host_dir("volume"));
    std::fs::write(&file, "text").expect("file");
    let mut spec = engine.clone();
    spec["root"]["path"] = json!(bundle.rootfs());
    spec["process"]["terminal"] = json!(false);
    spec["process"]["cwd"] = json!("/");
    for hook in spec["hooks"].as_object_mut().into_iter().flatten().flat_map(|(_, list)| list.as_array_mut()).flatten()
    {
        hook["path"] = json!("/bin/true");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        let source = mount["source"].as_str().unwrap_or("").to_owned();
        if mount["type"] == "bind" && !source.starts_with("/dev") && !source.starts_with("/sys") {
            let is_file = Path::new(mount["destination"].as_str().unwrap_or("")).parent() == Some(Path::new("/etc"));
            mount["source"] = if is_file { json!(file) } else { json!(directory) };
        }
    }
    for namespace in spec["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        if namespace["path"].is_string() {
            let name = namespace["type"].as_str().unwrap_or_default().replace("network", "net");
            namespace["path"] = json!(format!("/proc/{pod}/ns/{name}"));
        }
    }
    if let Some(owner) = spec["linux"]["uidMappings"][0]["hostID"].as_u64() {
        for path in ["", "proc", "sys", "dev", "tmp", "etc", "data"] {
            let owner = u32::try_from(owner).ok();
            std::os::unix::fs::chown(bundle.inside(path), owner, owner).expect("chown");
        }
    }
    let path = if host::all_with_systemd() { format!(":suite:{}", bundle.id) } else { format!("/{}", bundle.id) };
    if spec["linux"]["cgroupsPath"].is_string() {
        spec["linux"]["cgroupsPath"] = json!(path);
    }
    bundle.config(|own| *own = spec)
}

fn configs_of_engines_are_planned() {
    // They are those of engines that root runs.
    need_root();
    need_ocirt();
    let pod = Bundle::new().start(probe!(sleep 60));
    for (name, engine) in fixtures::engines() {
        let bundle = adjusted(&engine, pod.pid()).write(probe!(print "it ran"));
        let output = call(["plan", bundle.dir.to_str().expect("UTF-8")]);
        assert_eq!(output.status, 0, "{name}: {}", output.stderr);
    }
}

fn configs_of_engines_run() {
    // They are those of engines that root runs.
    need_root();
    let mut wrong = Vec::new();
    for (name, engine) in fixtures::engines() {
        let pod = Bundle::new().create(probe!(sleep 60));
        pod.start().ok();
        let output = adjusted(&engine, pod.pid()).config(restrict).run(probe!(print "it ran"));
        if output.status != 0 || output.answers() != ["it ran"] {
            wrong.push(format!("{name}: {} {}", output.status, output.stderr.trim_end()));
        }
        call(["delete", "--force", pod.id()]).ok();
        host::assert_nothing_left();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Takes away what a machine without CAP_SYS_RESOURCE refuses to every runtime.
pub fn restrict(spec: &mut Value) {
    restrict_process(&mut spec["process"]);
}

/// The same of a process alone, as it is in process.json.
pub fn restrict_process(process: &mut Value) {
    let process = process.as_object_mut().expect("process");
    let too_high = |limit: &Value| hard_limit(limit["type"].as_str().unwrap_or("")) < limit["hard"].as_u64();
    if let Some(limits) = process.get_mut("rlimits").and_then(Value::as_array_mut) {
        limits.retain(|limit| !too_high(limit));
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("oom_score_adj");
    let own: i64 = own.trim().parse().expect("a number");
    if process.get("oomScoreAdj").and_then(Value::as_i64).is_some_and(|score| score < own) {
        process.remove("oomScoreAdj");
    }
    process.remove("apparmorProfile");
    for set in process.get_mut("capabilities").and_then(Value::as_object_mut).into_iter().flatten() {
        set.1.as_array_mut().expect("a set").retain(|name| name != "CAP_SYS_RESOURCE");
    }
}

/// The hard limit of this process, as /proc/self/limits has it; unlimited is the largest number.
fn hard_limit(name: &str) -> Option<u64> {
    let title = match name {
        "RLIMIT_NOFILE" => "Max open files",
        "RLIMIT_NPROC" => "Max processes",
        _ => return None,
    };
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(title))?;
    let hard = line.split_whitespace().nth(1)?;
    Some(hard.parse().unwrap_or(u64::MAX))
}
