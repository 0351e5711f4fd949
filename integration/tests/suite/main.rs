//! Black-box tests of an OCI runtime, as an engine sees it from outside and a program from inside.
//!
//! `RUNTIME=/usr/sbin/runc cargo test -p ocirt-integration [WORD…]` runs them against another runtime.

#![allow(
    clippy::disallowed_methods,
    reason = "rules of the runtime; a test process and its guest exit and spawn as they like"
)]

mod all_roots;
mod annotations;
mod apparmor;
mod ask;
mod attacks;
mod birth;
mod birth_hindered;
mod callers;
mod cgroups;
mod cgroups_rootless;
mod check;
mod checkpoint;
mod checkpoint_failures;
mod checkpoint_mounts;
mod confinement;
mod console;
mod crash;
mod debug_log;
mod deliberate;
mod engines;
mod error_codes;
mod events;
mod exec;
mod exec_join;
mod exec_life;
mod exec_rootless;
mod flags;
mod floor;
mod foreign_root;
mod gc;
mod gone;
mod helpers;
mod hooks;
mod hooks_failing;
mod hostile_cgroups;
mod hostile_copies;
mod hostile_devices;
mod hostile_files;
mod hostile_mounts;
mod hot_mounts;
mod hung;
mod idmap;
mod inject;
mod inject_change;
mod inspect;
mod lifecycle;
mod likeness;
mod malformed;
mod messages;
mod mount_accidents;
mod mount_flags;
mod mount_helpers;
mod mount_links;
mod mounts;
mod mounts_rootless;
mod namespaces;
mod neighbours;
mod net_devices;
mod no_cgroup;
mod notify;
mod one_id;
mod one_id_slow;
mod opener;
mod output;
mod pause;
mod plan;
mod process;
mod process_capabilities;
mod ps;
mod reclaim;
mod refusals;
mod resources;
mod restore_deleted;
mod restore_directories;
mod restore_forged;
mod restore_links;
mod restore_names;
mod restore_network;
mod restore_numbers;
mod restore_paths;
mod restore_rights;
mod restore_root;
mod rootfs;
mod rootless;
mod scale;
mod seccomp;
mod security;
mod shim_input;
mod shim_kill;
mod state_files;
mod states;
mod supervisor;
mod systemd;
mod systemd_rootless;
mod systemd_trouble;
mod systemd_update;
mod trace;
mod update;
mod update_devices;
mod userns_path;
mod userns_path_edges;
mod verify;
mod verify_rootless;
mod wait;
mod waits;
mod wrong_values;

fn main() -> std::process::ExitCode {
    ocirt_integration::runner::main(&[
        annotations::TESTS,
        apparmor::TESTS,
        lifecycle::TESTS,
        likeness::TESTS,
        mounts::TESTS,
        mounts_rootless::TESTS,
        rootfs::TESTS,
        rootless::TESTS,
        scale::TESTS,
        messages::TESTS,
        error_codes::TESTS,
        helpers::TESTS,
        hooks::TESTS,
        hooks_failing::TESTS,
        callers::TESTS,
        supervisor::TESTS,
        trace::TESTS,
        inspect::TESTS,
        verify::TESTS,
        verify_rootless::TESTS,
        ask::TESTS,
        wait::TESTS,
        waits::TESTS,
        plan::TESTS,
        process::TESTS,
        process_capabilities::TESTS,
        namespaces::TESTS,
        userns_path::TESTS,
        userns_path_edges::TESTS,
        idmap::TESTS,
        opener::TESTS,
        hot_mounts::TESTS,
        hung::TESTS,
        malformed::TESTS,
        mount_accidents::TESTS,
        mount_flags::TESTS,
        mount_links::TESTS,
        seccomp::TESTS,
        confinement::TESTS,
        notify::TESTS,
        neighbours::TESTS,
        net_devices::TESTS,
        cgroups::TESTS,
        cgroups_rootless::TESTS,
        refusals::TESTS,
        security::TESTS,
        attacks::TESTS,
        birth::TESTS,
        birth_hindered::TESTS,
        hostile_cgroups::TESTS,
        hostile_copies::TESTS,
        hostile_devices::TESTS,
        hostile_files::TESTS,
        hostile_mounts::TESTS,
        mount_helpers::TESTS,
        states::TESTS,
        state_files::TESTS,
        exec::TESTS,
        exec_join::TESTS,
        exec_life::TESTS,
        exec_rootless::TESTS,
        console::TESTS,
        output::TESTS,
        all_roots::TESTS,
        flags::TESTS,
        wrong_values::TESTS,
        pause::TESTS,
        ps::TESTS,
        reclaim::TESTS,
        no_cgroup::TESTS,
        resources::TESTS,
        restore_deleted::TESTS,
        restore_directories::TESTS,
        restore_forged::TESTS,
        restore_links::TESTS,
        restore_names::TESTS,
        restore_network::TESTS,
        restore_numbers::TESTS,
        restore_paths::TESTS,
        restore_rights::TESTS,
        restore_root::TESTS,
        update::TESTS,
        update_devices::TESTS,
        systemd::TESTS,
        systemd_trouble::TESTS,
        systemd_rootless::TESTS,
        systemd_update::TESTS,
        events::TESTS,
        check::TESTS,
        checkpoint::TESTS,
        checkpoint_failures::TESTS,
        checkpoint_mounts::TESTS,
        one_id::TESTS,
        one_id_slow::TESTS,
        floor::TESTS,
        foreign_root::TESTS,
        gc::TESTS,
        gone::TESTS,
        crash::TESTS,
        inject::TESTS,
        inject_change::TESTS,
        engines::TESTS,
        shim_input::TESTS,
        shim_kill::TESTS,
        debug_log::TESTS,
        deliberate::TESTS,
    ])
}
