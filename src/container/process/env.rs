//! `process.env`, HOME from the container's /etc/passwd where config.json sets none, and what a supervisor of the runtime
//! has for the program.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::program::Strings;
use crate::sys::{Errno, Fault, SysError, Text, beneath};

/// The most bytes of a home directory's path, its NUL included.
const HOME_MAX: usize = 4096;

/// The most bytes of /etc/passwd that are read: the container may hold an endless one, and every exec reads it
/// (CVE-2026-135844, CVE-2026-61801). A user whose line comes later has HOME=/, as one without a line.
const PASSWD_MAX: usize = 1 << 20;

/// The places of what is added later: [`Strings::set_spare`].
const HOME: usize = 0;
const LISTEN_PID: usize = 1;

/// The environment, with room for HOME and LISTEN_PID.
pub struct Environment {
    strings: Rc<Strings>,
    path: Option<String>,
    home_of: Option<u32>,
}

/// The prepared environment of a process of user `uid`. Of a name given twice the last value counts, as in runc; an
/// entry without a name or without "=" is an error. An empty HOME counts as none.
pub fn compile(env: &[String], uid: u32) -> Result<Environment> {
    let mut last: Vec<(&str, &str)> = Vec::with_capacity(env.len());
    let mut places = BTreeMap::new(); // a HashMap asks the kernel for random bytes
    for (index, entry) in env.iter().enumerate() {
        let (name, value) =
            entry.split_once('=').with_context(|| field!("process.env[{index}]"; "no \"=\" in {entry:?}"))?;
        if name.is_empty() {
            bail!(field!("process.env[{index}]"; "no name before \"=\" in {entry:?}"));
        }
        let place = *places.entry(name).or_insert(last.len());
        match last.get_mut(place) {
            Some((_, old)) => *old = value,
            None => last.push((name, value)),
        }
        if entry.contains('\0') {
            bail!(field!("process.env[{index}]"; "contains a NUL byte: {entry:?}"));
        }
    }
    let path = last.iter().find(|(name, _)| *name == "PATH").map(|(_, value)| (*value).to_owned());
    let has_home = last.iter().any(|(name, value)| *name == "HOME" && !value.is_empty());
    let kept = last.iter().filter(|(name, value)| *name != "HOME" || !value.is_empty());
    let strings = kept.map(|(name, value)| Ok(CString::new(format!("{name}={value}"))?)).collect::<Result<_>>()?;
    let home = if has_home { 0 } else { c"HOME=".count_bytes() + HOME_MAX };
    let room = [home, c"LISTEN_PID=4294967295".count_bytes() + 1];
    let strings = Rc::new(Strings::with_room(strings, room));
    Ok(Environment { strings, path, home_of: (!has_home).then_some(uid) })
}

impl Environment {
    /// The container's $PATH.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What execve(2) takes.
    pub fn strings(&self) -> &Rc<Strings> {
        &self.strings
    }

    /// Whether [`Self::find_home`] has something to do.
    pub fn needs_home(&self) -> bool {
        self.home_of.is_some()
    }

    /// Adds HOME from the container's /etc/passwd, "/" if the user has no line there. Belongs after pivot_root and
    /// before the ids change.
    pub fn find_home(&self) -> Result<(), Fault> {
        let Some(uid) = self.home_of else { return Ok(()) };
        let mut home = Home::of(uid);
        // A container without a readable passwd file is none the worse for it.
        let _ = read_passwd(&mut home);
        Ok(self.strings.set_spare(HOME, &[b"HOME=", home.path()])?)
    }

    /// Says that the descriptors of LISTEN_FDS are for the process `pid`: the caller (sd_listen_fds(3)). Where the pid is
    /// known before, it is among the strings.
    pub fn set_listen_pid(&self, pid: u32) -> Result<(), Fault> {
        let mut digits = Text::default();
        // Ten digits fit.
        let _ = fmt::write(&mut digits, format_args!("{pid}"));
        Ok(self.strings.set_spare(LISTEN_PID, &[b"LISTEN_PID=", digits.as_bytes()])?)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.home_of {
            Some(uid) => write!(f, "set HOME of user {uid} from /etc/passwd"),
            None => f.write_str("keep HOME"),
        }
    }
}

/// Feeds the container's /etc/passwd to `home` until it has what it looks for. A regular file only: a FIFO there
/// would hang init.
fn read_passwd(home: &mut Home) -> Result<(), SysError> {
    let root = beneath::root()?;
    let file = beneath::read_in_root(root.as_fd(), c"/etc/passwd")?;
    if !beneath::is_regular(file.as_fd())? {
        return Err(SysError::new("open", Errno::EINVAL));
    }
    let mut buffer = [0; 4096];
    let mut total = 0;
    while total < PASSWD_MAX && !home.found {
        let len = beneath::read_some(file.as_fd(), &mut buffer)?;
        if len == 0 {
            home.end_line();
            break;
        }
        total += len;
        for byte in buffer.get(..len).unwrap_or_default() {
            home.feed(*byte);
        }
    }
    Ok(())
}

/// A reader of passwd(5) that gets the file byte by byte: `name:password:UID:GID:GECOS:directory:shell`.
struct Home {
    wanted: u32,
    field: u8,
    /// The number of this line's third field, while it is one.
    uid: Option<u64>,
    digits: u8,
    path: [u8; HOME_MAX - 1],
    len: usize,
    too_long: bool,
    found: bool,
}

impl Home {
    fn of(uid: u32) -> Self {
        let path = [0; HOME_MAX - 1];
        Self { wanted: uid, field: 0, uid: Some(0), digits: 0, path, len: 0, too_long: false, found: false }
    }

    fn feed(&mut self, byte: u8) {
        match (byte, self.field) {
            _ if self.found => {}
            (b'\n', _) => self.end_line(),
            (b':', _) => self.field = self.field.saturating_add(1),
            (b'0'..=b'9', 2) => {
                self.digits = self.digits.saturating_add(1);
                self.uid = self.uid.map(|uid| uid.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
            }
            (_, 2) => self.uid = None,
            (0, 5) => self.too_long = true,
            (_, 5) => match self.path.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.too_long = true,
            },
            _ => {}
        }
    }

    /// The first line of the user counts, if it has at least the six fields up to the directory.
    fn end_line(&mut self) {
        let is_user = self.digits > 0 && self.uid == Some(u64::from(self.wanted));
        self.found |= is_user && self.field >= 5 && !self.too_long;
        if !self.found {
            *self = Self { path: self.path, ..Self::of(self.wanted) };
        }
    }

    fn path(&self) -> &[u8] {
        let found = self.path.get(..self.len).filter(|path| self.found && !path.is_empty());
        found.unwrap_or(b"/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn strings(env: &[&str]) -> Result<Vec<String>> {
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        Ok(compile(&env, 0)?.strings.iter().map(|entry| entry.to_string_lossy().into_owned()).collect())
    }

    fn home(passwd: &[u8], uid: u32) -> String {
        let mut home = Home::of(uid);
        passwd.iter().for_each(|byte| home.feed(*byte));
        home.end_line();
        String::from_utf8_lossy(home.path()).into_owned()
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        assert_eq!(strings(&["A=1", "B=2", "A=3=4"]).expect("compiles"), ["A=3=4", "B=2"]);
        let env = compile(&["PATH=/a".into(), "PATH=/b".into()], 0).expect("compiles");
        assert_eq!(env.path(), Some("/b"));
    }

    #[test]
    fn an_entry_that_is_no_variable_is_an_error_that_names_it() {
        for bad in ["NOTHING", "=1", "A=b\0c"] {
            let error = strings(&["A=1", bad]).expect_err(bad).to_string();
            assert!(error.starts_with("process.env[1]: "), "{error}");
        }
    }

    #[test]
    fn home_is_the_directory_of_the_users_first_line() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\n# note\n\nbroken:x:7\nweb:x:33:33:,,:/var/www:/bin/sh\nb:x:33:1::/b:";
        assert_eq!(home(passwd, 0), "/root");
        assert_eq!(home(passwd, 33), "/var/www");
        assert_eq!(home(passwd, 7), "/");
        assert_eq!(home(passwd, 1), "/");
        assert_eq!(home(b"a:x:5:5::/home/a", 5), "/home/a");
        assert_eq!(home(b"a:x:5:5:::/bin/sh\n", 5), "/");
    }

    #[test]
    fn no_odd_number_is_taken_for_root() {
        for uid in ["", "-0", "+0", " 0", "0x0", "4294967296", "18446744073709551616"] {
            let line = format!("evil:x:{uid}:0::/evil:/bin/sh\n");
            assert_eq!(home(line.as_bytes(), 0), "/", "{uid:?}");
        }
    }

    #[test]
    fn a_directory_that_is_too_long_or_has_a_nul_is_passed_over() {
        let line = [b"a:x:5:5::/".as_slice(), &[b'a'; 5000], b":/bin/sh\nb:x:5:5::/b:\n"].concat();
        assert_eq!(home(&line, 5), "/b");
        assert_eq!(home(b"a:x:5:5::/a\0b:\n", 5), "/");
    }

    #[test]
    fn a_passwd_file_that_is_none_or_lies_outside_is_not_read() {
        let root = std::env::temp_dir().join(format!("ocirt-passwd-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).expect("new");
        let passwd = root.join("etc/passwd");
        let found = |uid| {
            in_a_child(|| {
                std::os::unix::fs::chroot(&root)?;
                let env = compile(&[], uid)?;
                heap_free(|| env.find_home())?;
                let home: Vec<u8> = env.strings.spare(HOME).collect();
                Ok(std::fs::write("/home", home)?)
            });
            std::fs::read_to_string(root.join("home")).expect("the answer")
        };
        assert_eq!(found(0), "HOME=/", "missing");
        for (name, target) in [("a magic link", "/proc/self/fd/0"), ("a device", "/dev/null"), ("a loop", "passwd")] {
            std::os::unix::fs::symlink(target, &passwd).expect("new");
            assert_eq!(found(0), "HOME=/", "{name}");
            std::fs::remove_file(&passwd).expect("was made");
        }
        std::process::Command::new("mkfifo").arg(&passwd).status().expect("mkfifo");
        assert_eq!(found(0), "HOME=/", "a FIFO");
        std::fs::remove_file(&passwd).expect("was made");
        // A link within the container is followed, and the file is read in pieces.
        std::os::unix::fs::symlink("/real", &passwd).expect("new");
        let many: String = (1..5000).map(|uid| format!("u{uid}:x:{uid}:1::/home/u{uid}:/bin/sh\n")).collect();
        std::fs::write(root.join("real"), many).expect("written");
        assert_eq!(found(4999), "HOME=/home/u4999");
        // Of a long file the beginning counts, to the byte.
        let line = "last:x:7:1::/last:/bin/sh\n";
        for (spare, home) in [(0, "HOME=/last"), (1, "HOME=/")] {
            let filling = "#".repeat(PASSWD_MAX - line.len() + spare - 1);
            std::fs::write(root.join("real"), format!("{filling}\n{line}")).expect("written");
            assert_eq!(found(7), home, "{spare}");
        }
        std::fs::remove_dir_all(root).expect("was made");
    }

    #[test]
    fn an_empty_home_is_filled_in_and_a_given_one_is_kept() {
        in_a_child(|| {
            let env = compile(&["A=1".into(), "HOME=".into()], 0)?;
            assert!(env.needs_home());
            heap_free(|| env.find_home())?;
            let spare: Vec<u8> = env.strings.spare(HOME).collect();
            assert_eq!(String::from_utf8_lossy(&spare), "HOME=/root");
            assert!(!compile(&["HOME=/x".into()], 0)?.needs_home());
            heap_free(|| env.set_listen_pid(4_294_967_295))?;
            let spare: Vec<u8> = env.strings.spare(LISTEN_PID).collect();
            assert_eq!(String::from_utf8_lossy(&spare), "LISTEN_PID=4294967295");
            Ok(())
        });
    }
}
