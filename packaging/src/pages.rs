//! What the manual pages say beyond the command line: exit statuses, files, examples.

/// The sections of one page that clap knows nothing of.
pub struct Page {
    pub command: &'static str,
    pub statuses: &'static [(&'static str, &'static str)],
    pub files: &'static [(&'static str, &'static str)],
    pub examples: &'static [Example],
    pub see_also: &'static [&'static str],
}

/// Command lines, and what they are for. Those that begin with `ocirt` are tested: the program takes them.
pub struct Example {
    pub what: &'static str,
    pub lines: &'static [&'static str],
}

/// The page of a command.
pub fn of(command: &str) -> Option<&'static Page> {
    COMMANDS.iter().find(|page| page.command == command)
}

type Entries = &'static [(&'static str, &'static str)];

const SIMPLE: Entries = &[("0", "Success."), ("1", "An error; one line on standard error, or in --log, says which.")];

const OF_THE_PROCESS: Entries = &[
    ("0 to 255", "The status of the container's process, or 128 and the number of the signal that ended it."),
    ("0", "With --detach: success."),
    ("1", "Also: an error; one line on standard error, or in --log, says which."),
];

const STATE: Entries = &[(
    "/run/ocirt/CONTAINER_ID/",
    "What is known of the container. It is below --root, for users other than root below $XDG_RUNTIME_DIR/ocirt.",
)];

const BUNDLE: Entries = &[
    ("config.json", "In the bundle directory: what to run and how, as the OCI runtime specification has it."),
    ("rootfs/", "In the bundle directory: the root filesystem, if config.json does not name another one."),
    ("/run/ocirt/CONTAINER_ID/", "What is known of the container, until it is deleted."),
];

const IMAGES: Entries = &[
    ("checkpoint/", "The images, if --image-path does not name another directory."),
    ("dump.log, restore.log", "CRIU's log, in the directory that --work-path names."),
    ("/etc/criu/ocirt.conf, /etc/criu/runc.conf", "CRIU's configuration: the first of them that is there."),
];

const NO_FILES: Entries = &[("/proc, /sys", "What the host offers is read there.")];

const fn example(what: &'static str, lines: &'static [&'static str]) -> Example {
    Example { what, lines }
}

pub const PROGRAM: Page = Page {
    command: "",
    statuses: &[
        ("0", "Success."),
        ("1", "An error; one line on standard error, or in --log, says which."),
        ("3", "Unknown command; `verify`: something differs."),
        ("0 to 255", "`run` and `restore` without --detach: the status of the container's process."),
        ("255", "`exec` and `wait`: an error, or the status of the process."),
    ],
    files: &[
        ("/run/ocirt/", "A directory for each of root's containers, if --root does not name another place."),
        ("$XDG_RUNTIME_DIR/ocirt/", "The same for other users."),
        (
            "CONTAINER_ID/state.json, CONTAINER_ID/exec.json, CONTAINER_ID/told.json",
            "In that directory: what later commands need to know of the container.",
        ),
        ("config.json, rootfs/", "The bundle: what `create`, `run` and `restore` make a container of."),
        ("/etc/ocirt/floor.json", "What every container of this host has at least, if it is there."),
    ],
    examples: &[
        example(
            "A container with a shell, of a static busybox:",
            &[
                "mkdir -p bundle/rootfs/bin && cd bundle",
                "cp /bin/busybox rootfs/bin/sh",
                "ocirt spec",
                "ocirt run web1",
            ],
        ),
        example(
            "As an engine calls it, with errors as JSON:",
            &["ocirt --log /run/web1.log --log-format json create --bundle /srv/web --pid-file /run/web1.pid web1"],
        ),
        example("What is there:", &["ocirt list"]),
    ],
    see_also: &[
        "ocirt-create(8)",
        "ocirt-start(8)",
        "ocirt-run(8)",
        "ocirt-exec(8)",
        "ocirt-kill(8)",
        "ocirt-delete(8)",
        "containerd-shim-ocirt-v2(8)",
        "namespaces(7)",
        "cgroups(7)",
        "capabilities(7)",
        "seccomp(2)",
        "criu(8)",
    ],
};

const COMMANDS: [Page; 26] = [
    Page {
        command: "create",
        statuses: SIMPLE,
        files: BUNDLE,
        examples: &[
            example(
                "A container of a bundle, and its program:",
                &["ocirt create --bundle /srv/web web1", "ocirt start web1"],
            ),
            example(
                "One with a terminal (process.terminal), which is sent to the program that listens at a socket:",
                &["ocirt create --bundle /srv/web --console-socket /run/web1.sock web1"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-start(8)", "ocirt-run(8)", "ocirt-delete(8)"],
    },
    Page {
        command: "run",
        statuses: OF_THE_PROCESS,
        files: BUNDLE,
        examples: &[
            example(
                "A container in the foreground, which is deleted at its end:",
                &["ocirt run --bundle /srv/web web1"],
            ),
            example("One in the background:", &["ocirt run --detach --bundle /srv/web --pid-file /run/web1.pid web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-create(8)", "ocirt-start(8)", "ocirt-delete(8)"],
    },
    Page {
        command: "start",
        statuses: SIMPLE,
        files: STATE,
        examples: &[example("The program of a container that was created:", &["ocirt start web1"])],
        see_also: &["ocirt(8)", "ocirt-create(8)"],
    },
    Page {
        command: "state",
        statuses: SIMPLE,
        files: STATE,
        examples: &[example("Whether a container runs:", &["ocirt state web1 | jq -r .status"])],
        see_also: &["ocirt(8)", "ocirt-list(8)"],
    },
    Page {
        command: "exec",
        statuses: &[
            ("0 to 255", "The status of the process, or 128 and the number of the signal that ended it."),
            ("0", "With --detach: success."),
            ("255", "Also: an error; one line on standard error, or in --log, says which."),
        ],
        files: STATE,
        examples: &[
            example("A shell in a container:", &["ocirt exec -t web1 sh"]),
            example("A command as another user, elsewhere:", &["ocirt exec --user 1000:1000 --cwd /srv web1 ls -l"]),
            example("A process as an engine describes it:", &["ocirt exec --process process.json --detach web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-run(8)", "ocirt-kill(8)", "capabilities(7)"],
    },
    Page {
        command: "kill",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("Ask a container to end, and make it end:", &["ocirt kill web1", "ocirt kill web1 KILL"]),
            example("Every process of a container:", &["ocirt kill --all web1 KILL"]),
        ],
        see_also: &["ocirt(8)", "ocirt-delete(8)", "signal(7)"],
    },
    Page {
        command: "wait",
        statuses: &[
            ("0 to 255", "The status of the container's process, or 128 and the number of the signal that ended it."),
            ("255", "Also: nothing is known of it, or an error; one line on standard error, or in --log, says which."),
        ],
        files: STATE,
        examples: &[
            example("The end of a container in the background:", &["ocirt wait web1"]),
            example("For a minute at most, for a program:", &["ocirt wait --timeout 1m --format json web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-run(8)", "ocirt-events(8)"],
    },
    Page {
        command: "inspect",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("A container, its processes and its mounts:", &["ocirt inspect web1"]),
            example("One of Docker's, which has its own root:", &["ocirt list --all-roots"]),
            example("Where it is mounted:", &["ocirt inspect --format json web1 | jq '.mounts[].destination'"]),
        ],
        see_also: &["ocirt(8)", "ocirt-state(8)", "ocirt-ps(8)", "ocirt-events(8)"],
    },
    Page {
        command: "trace",
        statuses: SIMPLE,
        files: NO_FILES,
        examples: &[
            example(
                "Where the time of a start goes:",
                &["ocirt --trace /tmp/t.json run --bundle /srv/web web1", "ocirt trace /tmp/t.json"],
            ),
            example("The same as a picture:", &["ocirt trace --svg /tmp/t.json > t.svg"]),
        ],
        see_also: &["ocirt(8)", "ocirt-plan(8)", "ocirt-events(8)"],
    },
    Page {
        command: "verify",
        statuses: &[("0", "As it was told."), ("3", "Something differs."), ("1", "Not all can be seen, or an error.")],
        files: STATE,
        examples: &[example("Whether somebody has changed it:", &["ocirt verify web1", "ocirt verify --all web1"])],
        see_also: &["ocirt(8)", "ocirt-inspect(8)", "ocirt-update(8)", "namespaces(7)", "capabilities(7)"],
    },
    Page {
        command: "pause",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("A container that stands still, and goes on:", &["ocirt pause web1", "ocirt resume web1"]),
            example("One that also gives up to a gigabyte of memory back:", &["ocirt pause --reclaim=1g web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-resume(8)", "cgroups(7)"],
    },
    Page {
        command: "resume",
        statuses: SIMPLE,
        files: STATE,
        examples: &[example("A container that was paused goes on:", &["ocirt resume web1"])],
        see_also: &["ocirt(8)", "ocirt-pause(8)"],
    },
    Page {
        command: "update",
        statuses: &[
            ("0", "Success."),
            ("1", "An error, which one line on standard error, or in --log, says. All limits are as they were."),
        ],
        files: STATE,
        examples: &[
            example(
                "Half a gigabyte, and half of a CPU:",
                &["ocirt update --memory 512m --cpu-period 100000 --cpu-quota 50000 web1"],
            ),
            example(
                "Limits as in config.json:",
                &["echo '{\"pids\": {\"limit\": 100}}' | ocirt update --resources - web1"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-events(8)", "cgroups(7)"],
    },
    Page {
        command: "events",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("What a container uses, now:", &["ocirt events --stats web1"]),
            example("Every second, until it ends:", &["ocirt events --interval 1s web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-update(8)", "cgroups(7)"],
    },
    Page {
        command: "delete",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("A container that has stopped:", &["ocirt delete web1"]),
            example("One that runs, or may not be there:", &["ocirt delete --force web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-kill(8)"],
    },
    Page {
        command: "gc",
        statuses: &[
            ("0", "Success, also if there is nothing to remove."),
            ("1", "Something cannot be removed, or an error; one line on standard error, or in --log, says which."),
        ],
        files: STATE,
        examples: &[
            example("What would be removed:", &["ocirt gc --dry-run"]),
            example(
                "What Docker's runtime has left, after it was killed:",
                &["ocirt --root /run/docker/runtime-ocirt/moby gc"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-delete(8)", "ocirt-list(8)"],
    },
    Page {
        command: "list",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("The containers of the calling user:", &["ocirt list"]),
            example(
                "The ids of those that Docker has made:",
                &["ocirt --root /run/docker/runtime-ocirt/moby list --quiet"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-state(8)"],
    },
    Page {
        command: "mounts",
        statuses: &[
            ("0", "Success."),
            ("1", "An error, which one line on standard error, or in --log, says. No mount has been added."),
        ],
        files: STATE,
        examples: &[example(
            "A directory of the host's, for a while:",
            &[
                "echo '[{\"destination\": \"/mnt\", \"source\": \"/srv\", \"options\": [\"rbind\", \"ro\"]}]' >mounts.json",
                "ocirt mounts add web1 mounts.json",
                "ocirt mounts remove web1 mounts.json",
            ],
        )],
        see_also: &["ocirt(8)", "mount(8)"],
    },
    Page {
        command: "ps",
        statuses: SIMPLE,
        files: STATE,
        examples: &[
            example("The processes of a container, with their memory:", &["ocirt ps web1 -o pid,rss,args"]),
            example("Their pids, for a program:", &["ocirt ps --format json web1"]),
        ],
        see_also: &["ocirt(8)", "ps(1)"],
    },
    Page {
        command: "checkpoint",
        statuses: SIMPLE,
        files: IMAGES,
        examples: &[
            example(
                "A container that is saved, and goes on from there later:",
                &[
                    "ocirt checkpoint --image-path /srv/images web1",
                    "ocirt restore --image-path /srv/images --bundle /srv/web --detach web1",
                ],
            ),
            example("A copy of one that runs on:", &["ocirt checkpoint --leave-running --image-path /srv/images web1"]),
        ],
        see_also: &["ocirt(8)", "ocirt-restore(8)", "criu(8)"],
    },
    Page {
        command: "restore",
        statuses: OF_THE_PROCESS,
        files: IMAGES,
        examples: &[example(
            "A container that was saved:",
            &["ocirt restore --image-path /srv/images --bundle /srv/web --detach web1"],
        )],
        see_also: &["ocirt(8)", "ocirt-checkpoint(8)", "criu(8)"],
    },
    Page {
        command: "spec",
        statuses: SIMPLE,
        files: &[("config.json", "In the bundle directory; it must not be there yet.")],
        examples: &[
            example("A configuration to start from:", &["ocirt spec --bundle /srv/web"]),
            example("One for a user other than root:", &["ocirt spec --rootless"]),
        ],
        see_also: &["ocirt(8)", "ocirt-run(8)"],
    },
    Page {
        command: "features",
        statuses: SIMPLE,
        files: NO_FILES,
        examples: &[example("The options of mounts:", &["ocirt features | jq -r '.mountOptions[]'"])],
        see_also: &["ocirt(8)", "ocirt-info(8)"],
    },
    Page {
        command: "info",
        statuses: SIMPLE,
        files: NO_FILES,
        examples: &[
            example("For a report of a fault:", &["ocirt info"]),
            example(
                "Which security modules the kernel runs:",
                &["ocirt info --format json | jq -r '.securityModules[]'"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-features(8)", "capabilities(7)"],
    },
    Page {
        command: "check",
        statuses: &[
            ("0", "Nothing was found."),
            ("1", "An error: it could not be looked at; one line on standard error, or in --log, says why."),
            ("3", "Something was found."),
        ],
        files: BUNDLE,
        examples: &[
            example("A bundle:", &["ocirt check --bundle /srv/web"]),
            example(
                "The codes of what is found in a container of Docker:",
                &["ocirt check --bundle . --as docker --format json | jq -r '.findings[].code'"],
            ),
        ],
        see_also: &["ocirt(8)", "ocirt-create(8)", "ocirt-plan(8)"],
    },
    Page {
        command: "plan",
        statuses: SIMPLE,
        files: BUNDLE,
        examples: &[example("What `create` would do:", &["ocirt plan /srv/web"])],
        see_also: &["ocirt(8)", "ocirt-create(8)"],
    },
];

#[cfg(test)]
mod tests;
