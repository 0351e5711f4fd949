//! /proc/PID/mountinfo: the mounts of a namespace as the kernel has them, without looking up any path. proc_pid_mountinfo(5).

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted<'t> {
    /// [`super::file::MountId::number`] of the mount, and of the one that it is mounted on.
    pub number: u64,
    pub parent: u64,
    /// Where it is, as seen from the root of the process.
    pub at: Vec<u8>,
    /// The type of the filesystem.
    pub kind: &'t [u8],
}

/// The mounts in `text`; a line that is none of the kernel's is left out.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Mounted<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(line)
}

fn line(text: &[u8]) -> Option<Mounted<'_>> {
    let mut fields = text.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (number, parent) = (number()?, number()?);
    let at = unescape(fields.nth(2)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mounted { number, parent, at, kind })
}

/// Space, tab, newline, backslash and `#` come as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = others;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mount_with_its_path_as_it_is() {
        let text =
            b"36 35 98:0 /a /mnt/x\\040y\\134z rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
            37 36 0:5 / /p\xff\\011 rw - proc proc rw\nnonsense\n";
        let mounts: Vec<_> = parse(text).collect();
        let expected = [
            Mounted { number: 36, parent: 35, at: b"/mnt/x y\\z".to_vec(), kind: b"ext3" },
            Mounted { number: 37, parent: 36, at: b"/p\xff\t".to_vec(), kind: b"proc" },
        ];
        assert_eq!(mounts, expected);
    }

    #[test]
    fn junk_is_no_mount_and_no_panic() {
        for junk in [&b""[..], b"1", b"1 2 3", b"x 2 3:4 / / rw - a b c", b"1 2 3:4 / / rw"] {
            assert_eq!(parse(junk).count(), 0, "{junk:?}");
        }
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999\\"), b"\\999\\");
    }
}
