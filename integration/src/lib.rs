//! The harness of the black-box tests: bundles in, answers and host facts out.
//!
//! Every test is a process of its own in a mount namespace of its own ([`runner`]); it builds a [`bundle::Bundle`], drives the
//! runtime under test with [`runtime`] (each call has a deadline), and [`corner`] proves afterwards that nothing is left.
//!
//! The runtime is a parameter: `RUNTIME` or `OCIRT` in the environment, else the `ocirt` that this workspace built.

#![allow(
    clippy::disallowed_methods,
    reason = "rules of the runtime; a test process and its guest exit and spawn as they like"
)]

pub mod agent;
pub mod bundle;
pub mod corner;
pub mod criu;
pub mod evidence;
pub mod expected;
#[path = "../../tests/fixtures/mod.rs"]
pub mod fixtures;
pub mod flaky;
pub mod forge;
pub mod host;
pub mod needs;
pub mod program;
pub mod races;
pub mod report;
pub mod runner;
pub mod runtime;
pub mod selection;
pub mod shim;
pub mod snapshot;
pub mod terminal;
pub mod user;
pub mod wait;

/// Names the tests of a module. A test that is not named here is dead code, which
/// `make lint` refuses.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: $crate::runner::Tests = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

/// The command line of the guest: `probe!(read "/secret"; caps)`.
#[macro_export]
macro_rules! probe {
    ($($verb:ident $($argument:expr),*);+ $(;)?) => {{
        let mut words = vec![String::from("/probe")];
        $(
            if words.len() > 1 {
                words.push(String::from("+"));
            }
            words.push(String::from(stringify!($verb)));
            $(words.push($argument.to_string());)*
        )+
        words
    }};
}

/// True if a JSON list contains `word`.
pub fn has(list: &serde_json::Value, word: &str) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(|item| item == word))
}
