//! Mounts for a container that runs already, and which of its mounts are to go.

use anyhow::{Context as _, Result};
use oci_spec::runtime::Mount;

use super::Label;
use crate::container::id_map::{self, IdMaps};
use crate::container::rootfs::context::Context;
use crate::container::rootfs::hot::{HotMount, Unmount};
use crate::error::{Field, field};
use crate::init::report::StepIndex;

/// A list of things to do in a container, each with its place in the list that asks for it.
pub struct Listed<T> {
    pub items: Vec<T>,
    /// The user namespaces to be made for id-mapped mounts, each with the field that asks for it.
    pub mount_maps: Vec<(String, IdMaps)>,
    pub warnings: Vec<String>,
}

impl<T: std::fmt::Display> Listed<T> {
    /// Which item this is, in words.
    pub fn label(&self, index: StepIndex) -> Option<Label> {
        let item = self.items.get(index.place())?;
        Some(Label { index, field: format!("mounts[{index}]"), what: item.to_string() })
    }
}

/// What to mount, in order.
pub fn add(mounts: &[Mount], context: &Context) -> Result<Listed<HotMount>> {
    let mut listed = Listed { items: Vec::new(), mount_maps: Vec::new(), warnings: Vec::new() };
    for (index, mount) in mounts.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let next = listed.mount_maps.len();
        let (hot, mappings, warnings) =
            HotMount::compile(mount, context, next).with_context(|| Field::new(field.clone()))?;
        listed.warnings.extend(warnings.into_iter().map(|warning| format!("{field}.{warning}")));
        if let Some(mappings) = mappings {
            let maps = id_map::compile_for_mount(&field, &mappings.uids, &mappings.gids)?;
            listed.mount_maps.push((field, maps));
        }
        listed.items.push(hot);
    }
    Ok(listed)
}

/// What to unmount. Only the destinations count, so that one file serves both ways.
pub fn remove(mounts: &[Mount]) -> Result<Listed<Unmount>> {
    let compile = |(index, mount)| Unmount::compile(mount).with_context(|| field!("mounts[{index}]"));
    let items = mounts.iter().enumerate().map(compile).collect::<Result<_>>()?;
    Ok(Listed { items, mount_maps: Vec::new(), warnings: Vec::new() })
}
