use super::*;
use clap::CommandFactory;

use crate::error::Faults;
use crate::lifecycle::{StateView, Status};

/// The state of the container that runc's outputs in these tests were taken from.
pub fn state_of(id: &str) -> StateView {
    StateView {
        oci_version: "1.0.2-dev".into(),
        id: id.into(),
        pid: 3075,
        status: Status::Running,
        bundle: "/tmp/clicmp/b".into(),
        rootfs: "/tmp/clicmp/b/rootfs".into(),
        created: "2026-11-23T19:46:04.233813708Z".into(),
        annotations: [("a.x".into(), "é\"q".into()), ("z.b".into(), "<a&b>".into())].into(),
        owner: "root".into(),
        root: None,
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let arguments = line.split(' ').map(OsString::from).collect();
    Cli::try_parse_from(args::normalise(arguments).unwrap().words)
}

/// What engines call, each by its own source; the commands that are not here are not implemented yet.
const CALLS: [&str; 58] = [
    // containerd's shim, and Docker through it
    "ocirt --root R --log B/log.json --log-format json create --bundle B --pid-file B/init.pid ID",
    "ocirt --root R --log B/log.json --log-format json create --bundle B --pid-file B/init.pid --console-socket S ID",
    "ocirt --root R --log B/log.json --log-format json --systemd-cgroup create --bundle B --no-pivot --no-new-keyring ID",
    "ocirt --root R --log B/log.json --log-format json start ID",
    "ocirt --root R --log B/log.json --log-format json delete ID",
    "ocirt --root R --log B/log.json --log-format json delete --force ID",
    "ocirt --root R --log B/log.json --log-format json kill ID 15",
    "ocirt --root R --log B/log.json --log-format json kill --all ID 9",
    "ocirt --root R --log B/log.json --log-format json pause ID",
    "ocirt --root R --log B/log.json --log-format json resume ID",
    "ocirt --root R --log B/log.json --log-format json update --resources - ID",
    "ocirt --root R --log B/log.json --log-format json update --resources=- ID",
    "ocirt update --resources=FILE ID",
    "ocirt events --stats ID",
    "ocirt events --interval=5s ID",
    "ocirt --root R --log B/log.json --log-format json ps --format json ID",
    "ocirt --rootless=true state ID",
    "ocirt --rootless=false list --format=json",
    "ocirt --debug state ID",
    "ocirt features",
    // Docker
    "ocirt --version",
    "ocirt -v",
    "ocirt -V",
    // BuildKit
    "ocirt --log F --log-format json run --bundle B ID",
    "ocirt --log F --log-format json run --bundle B --no-pivot --keep ID",
    "ocirt --log F --log-format json kill ID 9",
    "ocirt --log F --log-format json state ID",
    // Podman, also through conmon
    "ocirt --log-format=json --log F --cgroup-manager disabled create --bundle B --pid-file P ID",
    "ocirt create --bundle B --pid-file P --console-socket S --preserve-fds 2 ID",
    "ocirt start ID",
    "ocirt kill ID 15",
    "ocirt delete --force ID",
    // Buildah
    "ocirt --debug create --bundle B --pid-file P --no-new-keyring --console-socket S NAME",
    "ocirt state NAME",
    "ocirt kill NAME",
    "ocirt delete NAME",
    // CRI-O
    "ocirt --root=/run/x create --bundle B --pid-file F ID",
    "ocirt --root /run/x --systemd-cgroup start ID",
    "ocirt --root /run/x kill ID KILL",
    // in sources
    "ocirt create -b B --pidfd-socket S ID",
    "ocirt run -b B -d --no-subreaper ID",
    "ocirt run -bundle B -detach -no-subreaper ID",
    "ocirt run --detach --detach --bundle A --bundle B ID",
    "ocirt ps --format table ID -o pid,comm",
    "ocirt kill -a ID 9",
    "ocirt --criu /usr/sbin/criu list -q",
    "ocirt list -f table",
    "ocirt spec --rootless -b B",
    "ocirt create -f C --no-subreaper ID",
    "ocirt delete -f -r ID",
    // exec, by containerd's shim, conmon, BuildKit and CRI-O
    "ocirt --root R --log L --log-format json exec --process F --detach --pid-file P ID",
    "ocirt --root R --log L --log-format json exec --process F --console-socket S --detach --pid-file P ID",
    "ocirt --root=R exec --pid-file P --process F --detach --tty --console-socket S ID",
    "ocirt exec --pid-file P --process F --detach --preserve-fds 2 ID",
    "ocirt --log F --log-format json exec --process F --pid-file P ID",
    "ocirt --root /run/x exec --process F ID",
    "ocirt exec -t -e A=B -e C=D -u 1:2 -g 3 -g 4 -c CAP_KILL --cgroup a:b --cgroup c:d ID sh -c -x --detach",
    "ocirt exec -d --no-subreaper --ignore-paused --pidfd-socket S --no-new-privs --apparmor A --process-label L ID true",
];

#[test]
fn every_call_of_an_engine_is_understood() {
    for call in CALLS {
        if let Err(error) = parse(call) {
            panic!("{call}: {error}");
        }
    }
}

#[test]
fn a_call_means_what_it_says() {
    let cli =
        parse("ocirt --root R --log L --log-format json create --bundle B -pid-file P --preserve-fds=3 --no-pivot ID")
            .unwrap();
    assert_eq!(cli.global.root.as_deref(), Some("R".as_ref()));
    assert_eq!(cli.global.log_format, "json");
    let Some(Command::Create(create)) = cli.command else { panic!() };
    assert_eq!(create.options.bundle, std::path::Path::new("B"));
    assert_eq!(create.options.pid_file.as_deref(), Some("P".as_ref()));
    assert_eq!((create.options.preserve_fds, create.options.no_pivot, create.options.no_new_keyring), (3, true, false));
}

#[test]
fn global_flags_come_before_the_command() {
    assert!(parse("ocirt state --root R ID").is_err_and(|error| error.to_string().contains("'--root'")));
}

#[test]
fn an_id_may_begin_with_a_dash_after_two_of_them() {
    assert!(parse("ocirt state -- -x").is_ok());
    assert!(parse("ocirt kill -- -x 9").is_ok());
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_default_configuration_is_one_that_create_takes() {
    use crate::container::default_spec::{self, CgroupNamespace};
    use crate::container::{bundle, validate};
    let directory = std::env::temp_dir().join(format!("ocirt-default-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("rootfs")).unwrap();
    let cgroup = CgroupNamespace::usual();
    let verdicts = [default_spec::rootful(cgroup), default_spec::rootless(cgroup)].map(|text| {
        std::fs::write(directory.join("config.json"), text).unwrap();
        let bundle = bundle::load(&directory, None)?;
        assert!(bundle.warnings.is_empty());
        validate::validate(&bundle.spec, &bundle.directory, &mut Faults::first())
    });
    std::fs::remove_dir_all(&directory).unwrap();
    verdicts.into_iter().for_each(|verdict| verdict.unwrap());
}

#[test]
fn every_engines_configuration_is_valid() {
    use crate::container::{bundle, validate};
    for (name, mut config) in crate::fixtures::engines() {
        config["root"]["path"] = "/proc".into();
        let (spec, warnings) = bundle::parse(config.to_string().as_bytes()).unwrap();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        validate::validate(&spec, here, &mut Faults::first()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}
