//! A container's processes as the runtime holds them: [`launch`] makes init, with an [`opener`] and by way of a
//! [`user_namespace`] where that takes one; [`agent`] and [`announce`] tell others of it; [`foreground`] stays with it;
//! [`supervisor`] passes on what it tells systemd, as it comes to an [`inbox`], and [`reason`] says why it could not go on. [`members`] are all of them,
//! [`ending`] waits for the last of init, which may hang in a file system ([`fuse`]), and [`poststop`] hooks come behind that; [`protect`] is what the runtime itself becomes first. [`trace`] tells how
//! long it all took.

pub mod agent;
pub mod announce;
pub mod ending;
pub mod foreground;
pub mod fuse;
pub mod heard;
pub mod inbox;
pub mod launch;
pub mod members;
pub mod opener;
pub mod poststop;
pub mod protect;
pub mod reason;
pub mod supervisor;
pub mod trace;
pub mod user_namespace;
