//! Who has the lock of a file, for the error of somebody who waited for it.

/// The pid in the line of proc_locks(5) that is about a flock(2) of this inode:
/// `1: FLOCK  ADVISORY  WRITE 3548 00:1a:12345 0 EOF`.
pub fn of(locks: &str, inode: u64) -> Option<i32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let [kind, _, mode, pid, file] = std::array::from_fn(|_| fields.next());
        let is_it = (kind, mode) == (Some("FLOCK"), Some("WRITE"))
            && file?.rsplit_once(':').is_some_and(|(_, number)| number.parse() == Ok(inode));
        if is_it { pid?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1a:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 3548 00:1a:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 00:1a:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 13 00:1a:78 0 EOF\n";
        assert_eq!((of(locks, 77), of(locks, 78), of("", 77)), (Some(3548), None, None));
    }
}
