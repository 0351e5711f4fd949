//! `update`: other limits for a container that exists. [`compile`] decides everything from what is asked for and what
//! holds already; [`Update::apply`] writes it, and undoes it if the rest fails.

mod change;
mod devices;
mod prepared;

pub use devices::DeviceExceptions;
pub use prepared::{LimitUpdate, compile};
