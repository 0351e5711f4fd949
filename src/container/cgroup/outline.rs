//! What will be made and written, in words: for `ocirt plan`.

use super::host::layout::absolute;
use super::prepared::Cgroup;
use super::wanted::device_filter::DEVICES;

impl Cgroup {
    /// Each directory and each file with its value, behind the field that asks for it; in the order in which they are made.
    pub fn outline(&self) -> Vec<(String, String)> {
        let unit =
            self.unit.iter().map(|unit| ("linux.cgroupsPath".to_owned(), format!("start unit {}", unit.unit.name)));
        let mut lines: Vec<_> = unit.collect();
        for group in &self.groups {
            let directory = absolute(&group.directory());
            lines.push(("linux.cgroupsPath".to_owned(), format!("make cgroup {directory}")));
            let write = |write: &super::wanted::resources::Write| {
                (write.field.clone(), format!("write {:?} to {directory}/{}", write.value, write.file))
            };
            lines.extend(group.writes.iter().map(write));
        }
        if !self.device_filter.is_empty() {
            lines.push((DEVICES.to_owned(), format!("device filter, {} instructions", self.device_filter.len())));
        }
        lines
    }
}
