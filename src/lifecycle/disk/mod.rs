//! What is kept on disk of a container, and how it is found again: [`root`] has a [`directory`] for each one, with its
//! [`state`], in which processes are known by their [`identity`]; it is read with suspicion ([`trusted`]). [`found`] is what
//! nearly every command begins with.

pub mod directory;
pub mod found;
pub mod identity;
pub mod root;
pub mod roots;
pub mod state;
pub mod trusted;
