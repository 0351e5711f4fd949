//! The container's cgroup: `linux.cgroupsPath` and `linux.resources` (config-linux.md, "Control groups"), with the
//! cgroupfs driver or by way of systemd, on cgroup v1, v2 and hybrid hosts.
//!
//! [`compile`] decides everything ([`prepared`]), from what is [`wanted`] and from where the [`host`] has its cgroups.
//! [`Cgroup::create`] makes the directories and writes all limits before anybody is in them, so that the container's
//! first page is accounted already. Init then enters by itself ([`CgroupJoin`]): nobody is ever moved from outside, which
//! would wait for an RCU grace period. [`Paths`] is what later commands need, without config.json.

mod host;
mod systemd;
mod wanted;

mod create;
mod deadline;
mod end;
mod expected;
mod freezer;
mod hold;
mod inside;
mod join;
mod limit;
mod maker;
mod none;
mod outline;
mod paths;
mod prepared;
mod reclaim;
mod seen;
pub mod stats;
pub mod update;
mod view;

#[cfg(test)]
mod tests;

pub use create::CreatedCgroup;
pub use expected::{Compared, Expected};
pub use host::layout::Layout;
pub use join::CgroupJoin;
pub use none::compile_none;
pub use paths::Paths;
pub use prepared::{Cgroup, compile, compile_unit};
pub use reclaim::{End, Reclaimed};
pub use systemd::refused::HadEnded;
pub use view::owner;
pub use wanted::applied::Applied;

/// Who makes the container's cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}
