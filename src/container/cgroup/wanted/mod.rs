//! What `linux.resources` asks for, as data: which file gets which value ([`resources`], by [`v1`] and [`v2`]), and which
//! devices may be used ([`device_rules`], and as a program of v2 [`device_filter`]).

pub mod applied;
pub mod device_filter;
pub mod device_rules;
pub mod resources;
pub mod v1;
pub mod v2;
