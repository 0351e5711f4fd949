//! The engines: how each is configured and started in a box, where /etc, /run and /var/lib are private, so that all of
//! them use their usual paths, and the runtime under test is /usr/local/sbin/ocirt.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{image, readme};

/// How long a daemon may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// Distribution packages only: /usr/local may have newer clients.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The ids that containers of a daemon with --userns-remap have.
const REMAP: &str = "echo remap:x:4343:4343::/:/bin/false >>/etc/passwd; echo remap:x:4343: >>/etc/group
    echo remap:300000:65536 >/etc/subuid; echo remap:300000:65536 >/etc/subgid";

/// Where a daemon says what it does.
struct Daemon {
    child: Child,
    log: PathBuf,
}

pub struct Engine {
    daemons: Vec<Daemon>,
    /// For the commands of a walk.
    pub environment: Vec<(String, String)>,
}

impl Engine {
    /// Starts the engine `name` with `runtime` as README.md configures it, and gives it the image.
    pub fn start(name: &str, runtime: &[u8], shim: Option<&[u8]>, place: &Path) -> Result<Self, String> {
        install(runtime, place)?;
        if let Some(shim) = shim {
            install_shim(shim, place).map_err(|error| format!("shim: {error}"))?;
        }
        image::archive(place)?;
        terminal(place)?;
        link_cri(place)?;
        let drop_in = shim
            .map(|_| drop_in_path())
            .transpose()?
            .map(|path| format!("{path}:/usr/local/sbin:"))
            .unwrap_or_default();
        let path = format!("{drop_in}{}:{PATH}", place.join("bin").display());
        let here = place.display().to_string();
        // Podman 5 warns of cgroup v1 at each call.
        let quiet = ("PODMAN_IGNORE_CGROUPSV1_WARNING", "1".to_owned());
        let own = [("PATH", path), ("HOME", here.clone()), ("PLACE", here), quiet];
        let environment = own.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut engine = Self { daemons: Vec::new(), environment };
        match name {
            "containerd" => engine.containerd(place, &readme::snippet("containerd/config.toml")?)?,
            "containerd-shim" => engine.containerd(place, &readme::snippet("containerd/shim.toml")?)?,
            "docker" => engine.docker(place, &readme::snippet("daemon.json")?, &[])?,
            "docker-shim" => engine.docker(place, &readme::snippet("daemon-shim.json")?, &[])?,
            "docker-remap" => {
                run(&engine, place, REMAP)?;
                engine.docker(place, &readme::snippet("daemon.json")?, &["--userns-remap", "remap"])?;
            }
            "podman" => podman(&engine, place)?,
            "podman-rootless" => podman_rootless(&engine, place)?,
            "none" => {}
            "crio" => crio(place)?,
            _ => return Err(format!("no engine is called {name}")),
        }
        Ok(engine)
    }

    fn containerd(&mut self, place: &Path, config: &str) -> Result<(), String> {
        let cni = r#"{"cniVersion":"0.4.0","name":"box","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,
            "ipMasq":false,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/16"}]]}},{"type":"portmap",
            "capabilities":{"portMappings":true}}]}"#;
        write("/etc/cni/net.d/10-box.conflist", cni)?;
        // What a machine without CAP_SYS_RESOURCE and a registry asks for besides.
        let machine = "\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"localhost/pause:latest\"\n  \
            restrict_oom_score_adj = true\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n";
        write("/etc/containerd/config.toml", &format!("{config}{machine}"))?;
        write(&place.join("runtimeclass.yaml").display().to_string(), &readme::snippet("runtimeclass.yaml")?)?;
        self.daemon(place, "containerd", &[], &["ctr", "version"])?;
        run(self, place, "ctr images import box.tar && ctr -n k8s.io images import box.tar")
    }

    fn docker(&mut self, place: &Path, config: &str, more: &[&str]) -> Result<(), String> {
        write("/etc/docker/daemon.json", config)?;
        let arguments = ["--bip", "172.30.0.1/24", "--default-address-pool", "base=172.31.0.0/16,size=24"];
        self.daemon(place, "dockerd", &[&arguments, more].concat(), &["docker", "version"])?;
        run(self, place, "docker load -i box.tar && docker tag localhost/box:latest box")
    }

    /// Starts a daemon and waits until the command `ready` succeeds.
    fn daemon(&mut self, place: &Path, program: &str, arguments: &[&str], ready: &[&str]) -> Result<(), String> {
        let log = place.join(format!("{program}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment.iter().cloned()).current_dir(place).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        self.daemons.push(Daemon { child, log });
        let end = Instant::now() + READY_WITHIN;
        loop {
            let mut question = Command::new(ready[0]);
            question.args(&ready[1..]).envs(self.environment.iter().cloned());
            if question.output().is_ok_and(|output| output.status.success()) {
                return Ok(());
            }
            let ended = self.daemons.iter_mut().any(|daemon| daemon.child.try_wait().is_ok_and(|end| end.is_some()));
            if ended || Instant::now() > end {
                self.show_log();
                return Err(format!("{program} does not answer"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines of what the daemons said.
    pub fn show_log(&self) {
        for daemon in &self.daemons {
            let text = fs::read_to_string(&daemon.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("-- {}", daemon.log.display());
            lines.iter().skip(lines.len().saturating_sub(15)).for_each(|line| println!("   {line}"));
        }
    }
}

/// The shim as `make install` has it: beside the runtime, and by the name of containerd's in a directory of its own.
fn install_shim(shim: &[u8], place: &Path) -> Result<(), String> {
    let (file, prefix) = (place.join("shim"), place.join("prefix"));
    fs::write(&file, shim).map_err(|error| error.to_string())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/install-shim");
    let output = Command::new(script).args([&file, &prefix]).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    for name in ["containerd-shim-ocirt-v2", "containerd-shim-ocirt-v3"] {
        let (from, to) = (prefix.join("sbin").join(name), place.join("sbin").join(name));
        fs::hard_link(from, to).map_err(|error| error.to_string())?;
    }
    crate::sandbox::bind(&prefix.join("lib"), Path::new("/usr/local/lib"));
    Ok(())
}

/// The part of PATH that README.md gives a service so that it finds the drop-in: the directories of ours.
fn drop_in_path() -> Result<String, String> {
    let unit = readme::snippet("containerd.service.d/ocirt.conf")?;
    let path = unit.lines().find_map(|line| line.strip_prefix("Environment=PATH="));
    let path = path.ok_or("README.md: no PATH for containerd")?;
    path.split(':').next().map(str::to_owned).ok_or("README.md: an empty PATH for containerd".to_owned())
}

/// The runtime as /usr/local/sbin/ocirt, and as the `runc` that BuildKit looks for in PATH; a criu that is newer than the
/// distribution's; and data directories that are no overlay, since overlays are made in them.
fn install(runtime: &[u8], place: &Path) -> Result<(), String> {
    let io = |what: &str, error: std::io::Error| format!("{what}: {error}");
    for directory in ["bin", "sbin", "lib"] {
        fs::create_dir_all(place.join(directory)).map_err(|error| io(directory, error))?;
    }
    let program = place.join("sbin/ocirt");
    fs::write(&program, runtime).map_err(|error| io("copy of the runtime", error))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(|error| io("chmod", error))?;
    crate::sandbox::bind(&place.join("sbin"), Path::new("/usr/local/sbin"));
    std::os::unix::fs::symlink("/usr/local/sbin/ocirt", place.join("bin/runc")).map_err(|error| io("runc", error))?;
    if let Some(criu) = std::env::var_os("OCIRT_CRIU").filter(|criu| Path::new(criu).exists()) {
        std::os::unix::fs::symlink(criu, place.join("bin/criu")).map_err(|error| io("criu", error))?;
    }
    for name in ["docker", "containerd", "containers"] {
        let (own, usual) = (place.join("lib").join(name), Path::new("/var/lib").join(name));
        fs::create_dir_all(&own).and_then(|()| fs::create_dir_all(&usual)).map_err(|error| io(name, error))?;
        crate::sandbox::bind(&own, &usual);
    }
    Ok(())
}

/// `terminal COMMAND` runs it on a terminal whose input stays silent until the command ends. An end of input there makes
/// an engine's client leave, sometimes before it has shown anything.
fn terminal(place: &Path) -> Result<(), String> {
    const SETUP: &str = r#"mkfifo silence &&
        printf '#!/bin/sh\nexec script -qec "$1" /dev/null <>"$PLACE/silence"\n' >bin/terminal && chmod 755 bin/terminal"#;
    let output = Command::new("sh").arg("-c").arg(SETUP).current_dir(place).output();
    match output.map_err(|error| error.to_string())? {
        output if output.status.success() => Ok(()),
        output => Err(format!("terminal: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The client of Kubernetes' API, which is built by itself: it is in target/TRIPLE/debug of its own directory.
fn link_cri(place: &Path) -> Result<(), String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("cri/target");
    let built = fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path().join("debug/cri"));
    match built.into_iter().find(|path| path.is_file()) {
        Some(path) => fs::copy(path, place.join("bin/cri")).map(drop).map_err(|error| format!("cri: {error}")),
        None => Ok(()),
    }
}

/// Podman and Buildah have no daemon.
fn podman(engine: &Engine, place: &Path) -> Result<(), String> {
    write("/etc/containers/containers.conf", &readme::snippet("containers.conf")?)?;
    // What a machine without systemd, journald and CAP_SYS_RESOURCE asks for besides.
    let machine = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n\
        [engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\ninfra_image = \"localhost/pause:latest\"\n";
    write("/etc/containers/containers.conf.d/box.conf", machine)?;
    write("/etc/containers/policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}")?;
    let storage = "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\n\
        graphroot = \"/var/lib/containers/storage\"\n";
    write("/etc/containers/storage.conf", storage)?;
    run(engine, place, "podman load -i $PLACE/box.tar")
}

/// CRI-O is no package of Debian's: the walk itself calls what its configuration names, as CRI-O does.
fn crio(place: &Path) -> Result<(), String> {
    let drop_in = readme::snippet("crio.conf")?;
    write(&place.join("crio.conf").display().to_string(), &drop_in)?;
    let path = |key: &str| {
        let value = drop_in.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
        value.map(|value| format!("{key}={value}\n")).ok_or(format!("README.md: no {key} for CRI-O"))
    };
    let keys = ["runtime_path", "runtime_root", "monitor_path"].map(path).into_iter().collect::<Result<String, _>>()?;
    write(&place.join("keys").display().to_string(), &keys)
}

/// Podman as an ordinary user with ids of its own below; `podman` in PATH becomes that user first.
fn podman_rootless(engine: &Engine, place: &Path) -> Result<(), String> {
    const SETUP: &str = r#"
        set -eu
        grep -q '^roamer:' /etc/passwd || echo "roamer:x:4242:4242::$PLACE/home:/bin/sh" >>/etc/passwd
        echo roamer:x:4242: >>/etc/group
        echo roamer:200000:65536 >/etc/subuid
        echo roamer:200000:65536 >/etc/subgid
        mkdir -p home /run/user/4242
        chown 4242:4242 home /run/user/4242
        chmod 700 /run/user/4242
        mknod tun c 10 200
        chmod 666 tun
        mount --bind tun /dev/net/tun
        cat >bin/podman <<END
#!/bin/sh
cd $PLACE/home
exec setpriv --reuid=4242 --regid=4242 --clear-groups env HOME=$PLACE/home XDG_RUNTIME_DIR=/run/user/4242 \
    USER=roamer /usr/bin/podman "\$@"
END
        chmod 755 bin/podman"#;
    run(engine, place, SETUP)?;
    podman(engine, place)
}

fn run(engine: &Engine, place: &Path, line: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).current_dir(place).envs(engine.environment.iter().cloned());
    let output = shell.output().map_err(|error| format!("{line}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            engine.show_log();
            Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

fn write(path: &str, text: &str) -> Result<(), String> {
    let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).and_then(|()| fs::write(path, text)).map_err(|error| format!("{path}: {error}"))
}
