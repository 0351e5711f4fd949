//! Whose process this is.

/// The most ranges of a user namespace's map, user_namespaces(7).
pub const MOST_RANGES: usize = 340;

/// The effective user id, geteuid(2).
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The effective group id, getegid(2).
pub fn effective_gid() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// Whether the caller is in a user namespace other than the initial one, user_namespaces(7). Where the kernel has none
/// there is no map to read.
pub fn in_a_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_every_id(&map))
}

/// True for the map of the initial user namespace.
fn maps_every_id(map: &str) -> bool {
    let mut fields = map.split_ascii_whitespace();
    (fields.next(), fields.next(), fields.next()) == (Some("0"), Some("0"), Some("4294967295"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initial_user_namespace_is_told_from_others() {
        assert!(maps_every_id("         0          0 4294967295\n"));
        assert!(!maps_every_id("         0       1000          1\n"));
        assert!(!maps_every_id("         0          0      65536\n"));
        assert!(!maps_every_id(""));
    }
}
