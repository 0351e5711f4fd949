use super::*;

fn config(text: &str) -> Result<Spec> {
    parse(text.as_bytes()).map(|(spec, _)| spec)
}

fn refusal(text: &str) -> String {
    format!("{:#}", config(text).unwrap_err())
}

/// A minimal configuration with more members.
fn with(members: &str) -> String {
    format!("{{\"ociVersion\":\"1.0.2\",\"linux\":{{}},{members}}}")
}

#[test]
fn broken_json_names_line_and_column() {
    assert_eq!(refusal("{]"), "line 1 column 2: key must be a string");
    assert_eq!(refusal("{\n \"a\": 1,\n}"), "line 3 column 1: trailing comma");
    assert_eq!(refusal(""), "line 1 column 0: EOF while parsing a value");
    assert_eq!(refusal("{} x"), "line 1 column 4: trailing characters");
    // The wrong type comes first here, but the file is broken.
    assert_eq!(refusal("{\"ociVersion\": 1, }"), "line 1 column 19: trailing comma");
    assert_eq!(refusal("[]"), "not a JSON object");
}

#[test]
fn a_wrong_type_names_its_field() {
    assert_eq!(
        refusal(&with("\"mounts\":[{\"destination\":\"/a\"},{\"destination\":2}]")),
        "mounts[1].destination: invalid type: 2, expected a string"
    );
    assert_eq!(
        refusal("{\"ociVersion\":\"1.0.0\",\"linux\":{\"resources\":{\"rdma\":{\"mlx5_1\":{\"hcaHandles\":\"x\"}}}}}"),
        "linux.resources.rdma.mlx5_1.hcaHandles: invalid type: \"x\", expected a number from 0 to 4294967295"
    );
    assert_eq!(
        refusal(&with("\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":-1}}")),
        "process.user.uid: invalid value: -1, expected a number from 0 to 4294967295"
    );
    assert_eq!(
        refusal(&with("\"process\":{\"cwd\":\"/\",\"user\":{\"gid\":4294967296}}")),
        "process.user.gid: invalid value: 4294967296, expected a number from 0 to 4294967295"
    );
}

#[test]
fn a_missing_field_is_named() {
    assert_eq!(refusal(&with("\"process\":{\"args\":[\"a\"]}")), "process.cwd: missing");
    assert_eq!(refusal(&with("\"mounts\":[{\"source\":\"a\"}]")), "mounts[0].destination: missing");
    assert_eq!(refusal(&with("\"hooks\":{\"prestart\":[{}]}")), "hooks.prestart[0].path: missing");
}

#[test]
fn an_unknown_value_is_refused_with_its_field() {
    let text =
        refusal("{\"ociVersion\":\"1.0.0\",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"moon\"}]}}");
    assert!(text.starts_with("linux.namespaces[1].type: unknown variant `moon`, expected one of"), "{text}");
    let text = refusal("{\"ociVersion\":\"1.0.0\",\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_NOPE\"}}}");
    assert!(text.starts_with("linux.seccomp.defaultAction: unknown variant `SCMP_ACT_NOPE`"), "{text}");
    let text = refusal(&with(
        "\"process\":{\"cwd\":\"/\",\"user\":{},\"rlimits\":[{\"type\":\"RLIMIT_X\",\"hard\":1,\"soft\":1}]}",
    ));
    assert!(text.starts_with("process.rlimits[0].type: unknown variant `RLIMIT_X`"), "{text}");
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(config(&with("\"future\":{\"a\":[1,2]},\"root\":{\"path\":\"r\",\"more\":true}")).is_ok());
}

#[test]
fn every_1_x_version_is_taken() {
    for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.7+build.1", "1.0.0-rc5+a-b"] {
        let (_, warnings) = parse(format!("{{\"ociVersion\":\"{version}\"}}").as_bytes()).unwrap();
        assert!(warnings.is_empty(), "{version}: {warnings:?}");
    }
    let (_, warnings) = parse(b"{\"ociVersion\":\"0.5.0-dev\"}").unwrap();
    assert_eq!(warnings, ["ociVersion 0.5.0-dev is older than 1.0.0, and is read as 1.0.0"]);
}

#[test]
fn other_versions_are_refused() {
    assert_eq!(refusal("{}"), "ociVersion: missing");
    assert_eq!(refusal("{\"ociVersion\":\"2.0.0\"}"), "ociVersion: unsupported version 2.0.0, must be 1.x");
    for version in ["1", "1.0", "1.0.0.0", "v1.0.0", "1.00.0", "1.+1.0", "1.0.0-", "one", "1.0.0-a..b", "-1.0.0"] {
        let text = refusal(&format!("{{\"ociVersion\":\"{version}\"}}"));
        assert_eq!(text, format!("ociVersion: \"{version}\" is not a semantic version"));
    }
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let text = with(
        "\"process\":{\"cwd\":\"/\",\"user\":{},\"capabilities\":{\"bounding\":[\"CAP_KILL\",\"CAP_MOON\"],\"ambient\":[\"X\"]}}",
    );
    let (spec, warnings) = parse(text.as_bytes()).unwrap();
    let capabilities = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
    assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 1);
    assert_eq!(capabilities.ambient().as_ref().unwrap().len(), 0);
    assert_eq!(
        warnings,
        [
            "process.capabilities.ambient: ignoring unknown capability \"X\"",
            "process.capabilities.bounding: ignoring unknown capability \"CAP_MOON\"",
        ]
    );
    let wrong = with("\"process\":{\"cwd\":\"/\",\"capabilities\":{\"bounding\":[7]}}");
    assert!(refusal(&wrong).starts_with("process.capabilities.bounding[0]: invalid type"), "{}", refusal(&wrong));
}

#[test]
fn an_absent_pids_limit_is_no_limit_and_zero_is_one() {
    let pids = |text: &str| {
        let spec =
            config(&format!("{{\"ociVersion\":\"1.3.0\",\"linux\":{{\"resources\":{{\"pids\":{text}}}}}}}")).unwrap();
        spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().map(|pids| pids.limit())
    };
    assert_eq!(pids("{}"), None);
    assert_eq!(pids("{\"limit\":null}"), None);
    assert_eq!(pids("{\"limit\":0}"), Some(0));
    assert_eq!(pids("{\"limit\":-1}"), Some(-1));
    assert_eq!(pids("{\"limit\":7}"), Some(7));
}

#[test]
fn gos_nulls_and_empty_strings_are_absent_values() {
    let text = "{\"ociVersion\":\"1.0.2\",\"mounts\":null,\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":null},\"env\":null},
        \"linux\":{\"resources\":{\"devices\":[{\"allow\":false,\"type\":\"\",\"access\":\"rwm\"}]},\"namespaces\":null}}";
    let spec = config(text).unwrap();
    assert!(spec.mounts().is_none());
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
}

#[test]
fn gos_empty_strings_are_absent_values_too() {
    let text = "{\"ociVersion\":\"1.0.2\",\"hostname\":\"\",\"process\":{\"cwd\":\"/\",\"user\":{},\"apparmorProfile\":\"\"},
        \"linux\":{\"cgroupsPath\":\"\",\"mountLabel\":\"\",\"rootfsPropagation\":\"\",\"namespaces\":[{\"type\":\"pid\",\"path\":\"\"}]}}";
    let spec = config(text).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!((spec.hostname(), linux.cgroups_path(), linux.mount_label()), (&None, &None, &None));
    assert_eq!(linux.rootfs_propagation(), &None);
    assert_eq!(linux.namespaces().as_ref().unwrap()[0].path(), &None);
    assert_eq!(spec.process().as_ref().unwrap().apparmor_profile(), &None);
}

#[test]
fn all_scheduler_flags_of_the_specification_are_known() {
    let text = with(
        "\"process\":{\"cwd\":\"/\",\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"flags\":[
        \"SCHED_FLAG_RESET_ON_FORK\",\"SCHED_FLAG_RECLAIM\",\"SCHED_FLAG_DL_OVERRUN\",\"SCHED_FLAG_KEEP_POLICY\",
        \"SCHED_FLAG_KEEP_PARAMS\",\"SCHED_FLAG_UTIL_CLAMP_MIN\",\"SCHED_FLAG_UTIL_CLAMP_MAX\"]}}",
    );
    let spec = config(&text).unwrap();
    let scheduler = spec.process().as_ref().unwrap().scheduler().as_ref().unwrap();
    assert_eq!(scheduler.flags().as_ref().unwrap().len(), 7);
}

#[test]
fn a_hugepage_limit_is_an_unsigned_number() {
    let text = "{\"ociVersion\":\"1.0.0\",\"linux\":{\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":18446744073709551615}]}}}";
    let spec = config(text).unwrap();
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), i64::MAX);
}

#[test]
fn another_platforms_container_is_refused() {
    for platform in ["freebsd", "windows", "solaris", "zos", "vm"] {
        let text = refusal(&format!("{{\"ociVersion\":\"1.3.0\",\"{platform}\":{{\"future\":1}}}}"));
        assert_eq!(text, format!("{platform}: a container of another platform, not of Linux"));
        let both = format!("{{\"ociVersion\":\"1.3.0\",\"linux\":{{}},\"{platform}\":{{\"devices\":[{{}}]}}}}");
        assert!(config(&both).is_ok(), "{platform} beside linux");
    }
}

#[test]
fn a_bundle_is_loaded_from_its_directory() {
    let directory = std::env::temp_dir().join(format!("ocirt-bundle-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let error = |result: Result<Bundle>| format!("{:#}", result.unwrap_err());
    assert_eq!(error(load(&directory, None)), "JSON specification file config.json not found");
    std::fs::write(directory.join("config.json"), "{").unwrap();
    assert_eq!(error(load(&directory, None)), "config.json: line 1 column 1: EOF while parsing an object");
    std::fs::write(directory.join("other.json"), "{\"ociVersion\":\"1.3.0\"}").unwrap();
    let bundle = load(&directory, Some(&directory.join("other.json"))).unwrap();
    assert_eq!(bundle.directory, std::fs::canonicalize(&directory).unwrap());
    assert_eq!(
        error(load(&directory.join("config.json"), None)),
        format!("bundle {}/config.json: chdir: not a directory", bundle.directory.display())
    );
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(
        error(load(&directory, None)),
        format!("bundle {}: chdir: no such file or directory", directory.display())
    );
}

/// Good and bad configurations for the rules of the specification's schema.
#[test]
fn the_specifications_fixtures_are_judged_rightly() {
    let bad = [
        ("bad-freebsd", "freebsd: "),
        ("bad-zos", "zos: "),
        ("bad-json", "line 1 column 17: "),
        ("bad-net-device", "linux.netDevices.eth7.name: "),
        ("bad-rdma", "linux.resources.rdma.hfi1_0.hcaHandles: "),
    ];
    for (name, text) in crate::fixtures::spec() {
        match (bad.iter().find(|(bad, _)| *bad == name), parse(text.as_bytes())) {
            (None, Ok(_)) => assert!(name.starts_with("good-"), "{name}"),
            (Some((_, field)), Err(error)) => assert!(format!("{error:#}").starts_with(field), "{name}: {error:#}"),
            (_, verdict) => panic!("{name}: {verdict:?}"),
        }
    }
    assert_eq!(crate::fixtures::spec().iter().filter(|(name, _)| name.starts_with("bad-")).count(), bad.len());
}
