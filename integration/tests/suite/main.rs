//! Black-box tests of an OCI runtime, as an engine sees it from outside and a program from inside.
//!
//! `RUNTIME=/usr/sbin/runc cargo test -p ocirt-integration [WORD…]` runs them against another runtime.

mod cgroups;
mod deliberate;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod refusals;
mod seccomp;

fn main() -> std::process::ExitCode {
    ocirt_integration::runner::main(&[
        lifecycle::TESTS,
        mounts::TESTS,
        hooks::TESTS,
        process::TESTS,
        namespaces::TESTS,
        seccomp::TESTS,
        cgroups::TESTS,
        refusals::TESTS,
        deliberate::TESTS,
    ])
}
