use std::path::Path;

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::mount::Mount;
use super::*;

/// What `mount` comes to in a container with these id mappings, none meaning that it has no user namespace: the number
/// of its user namespace (none: the container's), and the mappings of one that is to be made.
fn compiled(mount: Value, own: &[(u32, u32, u32)]) -> Result<Option<(Option<usize>, Option<String>)>> {
    let entry =
        |&(container, host, size): &(u32, u32, u32)| json!({ "containerID": container, "hostID": host, "size": size });
    let own: Vec<LinuxIdMapping> = serde_json::from_value(own.iter().map(entry).collect()).unwrap();
    let context = Context {
        bundle: Path::new("/bundle"),
        label: None,
        user_namespace: !own.is_empty(),
        network_namespace: true,
        cgroup: None,
        unseen: true,
        id_mappings: (&own, &own),
    };
    let compiled = Mount::compile(&serde_json::from_value(mount).unwrap(), &context, 3, &[])?;
    let id_map = match &compiled.mount {
        Mount::Bind(bind) => bind.id_map,
        Mount::Filesystem(filesystem) => filesystem.id_map,
        Mount::Sysfs(sysfs) => sysfs.0.id_map,
        Mount::Remount(_) | Mount::Cgroup(_) => None,
    };
    let text = |list: &[LinuxIdMapping]| {
        let lines = list.iter().map(|map| format!("{} {} {}", map.container_id(), map.host_id(), map.size()));
        lines.collect::<Vec<_>>().join(",")
    };
    let mappings = compiled.mappings.map(|map| format!("{}; {}", text(&map.uids), text(&map.gids)));
    Ok(id_map.map(|id_map| match id_map.from {
        From::Container => (None, mappings),
        From::Listed(number) => (Some(number), mappings),
    }))
}

fn bind(options: Value) -> Value {
    json!({ "destination": "/x", "source": "/src", "type": "bind", "options": options })
}

fn mapped(options: Value) -> Value {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mut mount = bind(options);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    mount
}

const OWN: &[(u32, u32, u32)] = &[(0, 1000, 10)];

#[test]
fn without_mappings_it_is_the_containers_user_namespace() {
    assert_eq!(compiled(bind(json!(["bind"])), OWN).unwrap(), None);
    for option in ["idmap", "ridmap", "idmap="] {
        assert_eq!(compiled(bind(json!(["bind", option])), OWN).unwrap(), Some((None, None)), "{option}");
        let error = compiled(bind(json!(["bind", option])), &[]).unwrap_err().to_string();
        assert!(error.starts_with("options: idmap: needs uidMappings and gidMappings, or a user"), "{error}");
    }
}

#[test]
fn mappings_ask_for_a_user_namespace_of_their_own_unless_they_are_the_containers() {
    let made = Some((Some(3), Some("0 1000 10; 0 1000 10".to_owned())));
    for options in [json!(["bind"]), json!(["bind", "idmap"]), json!(["rbind", "ridmap"])] {
        assert_eq!(compiled(mapped(options.clone()), &[]).unwrap(), made);
        assert_eq!(compiled(mapped(options.clone()), &[(0, 5, 10)]).unwrap(), made);
        assert_eq!(compiled(mapped(options), OWN).unwrap(), Some((None, None)));
    }
}

#[test]
fn cruns_mappings_are_understood_also_relative_to_the_containers() {
    let option = |text: &str| bind(json!(["bind", text]));
    let own = [(0, 0, 1), (1, 2, 1000)];
    let made = |text: &str| Some((Some(3), Some(text.to_owned())));
    assert_eq!(
        compiled(option("idmap=uids=0-1-10#10-11-10;gids=0-100-10"), &[]).unwrap(),
        made("0 1 10,10 11 10; 0 100 10")
    );
    // The example of crun(1).
    assert_eq!(compiled(option("idmap=uids=@1-3-10;gids=0-1-1"), &own).unwrap(), made("1 4 10; 0 1 1"));
    assert_eq!(compiled(option("idmap=uids=0-1000-10;gids=0-1000-10"), OWN).unwrap(), Some((None, None)));
}

#[test]
fn what_is_no_mapping_is_refused_by_name() {
    for (option, words) in [
        ("idmap=uids=0-1-1", "options: idmap=uids=0-1-1: needs both uids= and gids="),
        ("idmap=uids=0-1;gids=0-1-1", "options: idmap=uids=0-1;gids=0-1-1: 0-1: not three numbers"),
        ("idmap=uids=0--1-1;gids=0-1-1", "options: idmap=uids=0--1-1;gids=0-1-1: 0--1-1: "),
        ("idmap=users=0-1-1", "options: idmap=users=0-1-1: users=0-1-1: neither uids= nor gids="),
        ("idmap=uids=@5-1-1;gids=0-1-1", "options: idmap=uids=@5-1-1;gids=0-1-1: @5-1-1: no range"),
    ] {
        let error = format!("{:#}", compiled(bind(json!(["bind", option])), &[]).unwrap_err());
        assert!(error.starts_with(words), "{error}");
    }
    let error = compiled(mapped(json!(["bind", "idmap=uids=0-1-1;gids=0-1-1"])), &[]).unwrap_err().to_string();
    assert_eq!(error, "options: idmap=: not together with uidMappings");
    let mut half = mapped(json!(["bind", "idmap"]));
    half.as_object_mut().unwrap().remove("gidMappings");
    assert_eq!(compiled(half, &[]).unwrap_err().to_string(), "uidMappings: need gidMappings as well");
    let proc = json!({ "destination": "/proc", "source": "proc", "type": "proc", "options": ["idmap"] });
    assert_eq!(compiled(proc, OWN).unwrap_err().to_string(), "options: idmap: a proc cannot be id-mapped");
    let remount = bind(json!(["remount", "idmap"]));
    assert_eq!(compiled(remount, OWN).unwrap_err().to_string(), "options: idmap: not for a remount");
}
