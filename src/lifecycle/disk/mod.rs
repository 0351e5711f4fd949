//! What is kept on disk of a container, and how it is found again: [`root`] has a [`directory`] for each one, with its
//! [`state`], in which processes are known by their [`identity`], and what `verify` compares it with ([`told`]); it is read
//! with suspicion ([`trusted`]). [`found`] is what nearly every command begins with; [`left`] is the shim's, and not the
//! runtime's.

pub mod directory;
pub mod found;
mod holder;
pub mod identity;
pub mod left;
pub mod root;
pub mod roots;
pub mod state;
pub mod told;
pub mod trusted;
