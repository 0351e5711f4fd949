//! The systemd driver: systemd makes the container's cgroup, as a transient scope (or slice) unit, and knows its limits
//! as properties of it. A scope begins with a process that is there already, so init is cloned first, waits, and systemd
//! moves it; all that systemd has no property for is written to the cgroup afterwards, as by the cgroupfs driver.

mod bus;
mod gvariant;
pub mod limits;
mod name;
pub mod prepared;
mod properties;
pub mod refused;
pub mod unit;
mod wire;
