//! Mount options as config.json has them: one table, looked up by name when compiling and listed by `features`.
//!
//! Source: runtime-spec config.md, "Linux mount options"; mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS".

use core::ffi::CStr;
use std::os::fd::BorrowedFd;

use crate::sys;
use crate::sys::mount::{Attributes, Depth, Sharing, attr, legacy, set_attributes};

/// What an option asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Meaning {
    /// Nothing: `defaults`.
    Nothing,
    Bind(Depth),
    Remount,
    /// A flag of this mount.
    Flag(Attributes),
    /// Takes back one of the three values of the field of access times, if it was asked for: what the source has stays.
    NotAtime(u64),
    /// A flag of this mount and of all below it.
    TreeFlag(Attributes),
    Propagation(Sharing, Depth),
    /// A flag of the filesystem, by its name for fsconfig(2).
    Superblock(&'static CStr),
    /// A flag of the filesystem that only mount(2) can set or, the second, clear.
    Legacy(u64, u64),
    CopyUp,
    /// What becomes of symlinks, which is crun's.
    Links(Symlinks),
    /// Mapping of ids, which `mounts[].uidMappings` describe.
    IdMap(Depth),
}

/// How a bind mount treats its source and its destination if they are symlinks. Usually both are followed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Symlinks {
    /// A symlink as source is made anew at the destination.
    pub copy: bool,
    /// A symlink as source is mounted itself.
    pub mount_source_itself: bool,
    /// A symlink as destination is covered itself.
    pub cover_target_itself: bool,
}

impl Symlinks {
    const FOLLOW: Self = Self { copy: false, mount_source_itself: false, cover_target_itself: false };

    fn add(self, other: Self) -> Self {
        Self {
            copy: self.copy || other.copy,
            mount_source_itself: self.mount_source_itself || other.mount_source_itself,
            cover_target_itself: self.cover_target_itself || other.cover_target_itself,
        }
    }
}

use Meaning::{
    Bind, CopyUp, Flag, IdMap, Legacy, Links, NotAtime, Nothing, Propagation, Remount, Superblock, TreeFlag,
};

const fn set(flag: u64) -> Attributes {
    Attributes { set: flag, clear: 0 }
}

const fn clear(flag: u64) -> Attributes {
    Attributes { set: 0, clear: flag }
}

/// One of the three values of the field of access times. What turns noatime off means relatime, the kernel's default.
const fn atime(value: u64) -> Attributes {
    Attributes { set: value, clear: attr::ATIME_FIELD }
}

/// Every option with a meaning of its own; any other is the filesystem's.
const OPTIONS: &[(&str, Meaning)] = &[
    ("async", Superblock(c"async")),
    ("atime", Flag(atime(attr::RELATIME))),
    ("bind", Bind(Depth::One)),
    ("defaults", Nothing),
    ("dev", Flag(clear(attr::NODEV))),
    ("diratime", Flag(clear(attr::NODIRATIME))),
    ("dirsync", Superblock(c"dirsync")),
    ("exec", Flag(clear(attr::NOEXEC))),
    ("iversion", Legacy(legacy::I_VERSION, 0)),
    ("lazytime", Superblock(c"lazytime")),
    ("loud", Legacy(0, legacy::SILENT)),
    ("mand", Superblock(c"mand")),
    ("noatime", Flag(atime(attr::NOATIME))),
    ("nodev", Flag(set(attr::NODEV))),
    ("nodiratime", Flag(set(attr::NODIRATIME))),
    ("noexec", Flag(set(attr::NOEXEC))),
    ("noiversion", Legacy(0, legacy::I_VERSION)),
    ("nolazytime", Superblock(c"nolazytime")),
    ("nomand", Superblock(c"nomand")),
    ("norelatime", NotAtime(attr::RELATIME)),
    ("nostrictatime", NotAtime(attr::STRICTATIME)),
    ("nosuid", Flag(set(attr::NOSUID))),
    ("nosymfollow", Flag(set(attr::NOSYMFOLLOW))),
    ("private", Propagation(Sharing::Private, Depth::One)),
    ("ratime", TreeFlag(atime(attr::RELATIME))),
    ("rbind", Bind(Depth::Tree)),
    ("rdev", TreeFlag(clear(attr::NODEV))),
    ("rdiratime", TreeFlag(clear(attr::NODIRATIME))),
    ("relatime", Flag(atime(attr::RELATIME))),
    ("remount", Remount),
    ("rexec", TreeFlag(clear(attr::NOEXEC))),
    ("rnoatime", TreeFlag(atime(attr::NOATIME))),
    ("rnodev", TreeFlag(set(attr::NODEV))),
    ("rnodiratime", TreeFlag(set(attr::NODIRATIME))),
    ("rnoexec", TreeFlag(set(attr::NOEXEC))),
    ("rnorelatime", TreeFlag(atime(attr::RELATIME))),
    ("rnostrictatime", TreeFlag(atime(attr::RELATIME))),
    ("rnosuid", TreeFlag(set(attr::NOSUID))),
    ("rnosymfollow", TreeFlag(set(attr::NOSYMFOLLOW))),
    ("ro", Flag(set(attr::RDONLY))),
    ("rprivate", Propagation(Sharing::Private, Depth::Tree)),
    ("rrelatime", TreeFlag(atime(attr::RELATIME))),
    ("rro", TreeFlag(set(attr::RDONLY))),
    ("rrw", TreeFlag(clear(attr::RDONLY))),
    ("rshared", Propagation(Sharing::Shared, Depth::Tree)),
    ("rslave", Propagation(Sharing::Slave, Depth::Tree)),
    ("rstrictatime", TreeFlag(atime(attr::STRICTATIME))),
    ("rsuid", TreeFlag(clear(attr::NOSUID))),
    ("rsymfollow", TreeFlag(clear(attr::NOSYMFOLLOW))),
    ("runbindable", Propagation(Sharing::Unbindable, Depth::Tree)),
    ("rw", Flag(clear(attr::RDONLY))),
    ("shared", Propagation(Sharing::Shared, Depth::One)),
    ("silent", Legacy(legacy::SILENT, 0)),
    ("slave", Propagation(Sharing::Slave, Depth::One)),
    ("strictatime", Flag(atime(attr::STRICTATIME))),
    ("suid", Flag(clear(attr::NOSUID))),
    ("symfollow", Flag(clear(attr::NOSYMFOLLOW))),
    ("sync", Superblock(c"sync")),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(Sharing::Unbindable, Depth::One)),
    ("copy-symlink", Links(Symlinks { copy: true, ..Symlinks::FOLLOW })),
    ("src-nofollow", Links(Symlinks { mount_source_itself: true, ..Symlinks::FOLLOW })),
    ("dest-nofollow", Links(Symlinks { cover_target_itself: true, ..Symlinks::FOLLOW })),
    ("idmap", IdMap(Depth::One)),
    ("ridmap", IdMap(Depth::Tree)),
];

/// The names of all options that mounts can have, for `features`.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// The propagation that `word` names, such as `rslave`: also linux.rootfsPropagation has these words.
pub(super) fn propagation(word: &str) -> Option<(Sharing, Depth)> {
    OPTIONS.iter().find_map(|(name, meaning)| match meaning {
        Propagation(sharing, depth) if *name == word => Some((*sharing, *depth)),
        _ => None,
    })
}

/// The word for a propagation.
pub(super) fn propagation_word(wanted: (Sharing, Depth)) -> &'static str {
    let named = OPTIONS.iter().find(|(_, meaning)| *meaning == Propagation(wanted.0, wanted.1));
    named.map_or("", |(name, _)| name)
}

/// The flags that options ask for. A recursive word is about the mount as well, where the later of two words counts,
/// recursive or not: `rw,rro` is read-only, and `rro,rw` read-only but for the mount itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Flags {
    /// What all words come to, for the mount itself.
    pub mount: Attributes,
    /// What the recursive words come to, for all that is mounted below it.
    pub below: Attributes,
}

impl Flags {
    /// Flags that are set on one mount.
    pub fn of_mount(set: u64) -> Self {
        Self { mount: Attributes { set, clear: 0 }, below: Attributes::default() }
    }

    /// Leaves the field of access times of the mount as it is, where a word for this mount alone has asked for `value`.
    fn take_back_atime(&mut self, value: u64) {
        let Attributes { set, clear } = &mut self.mount;
        if *clear & self.below.clear & attr::ATIME_FIELD == 0 && *set & attr::ATIME_FIELD == value {
            *set &= !attr::ATIME_FIELD;
            *clear &= !attr::ATIME_FIELD;
        }
    }

    /// Gives them to the mount whose root `tree` is open on, and to those below.
    pub fn apply(&self, tree: BorrowedFd) -> sys::Result<()> {
        // mount_setattr(2) reaches what is below only together with the mount, whose own flags come last therefore.
        if !self.below.is_empty() {
            set_attributes(tree, self.below, Depth::Tree)?;
        }
        if self.mount.is_empty() || self.mount == self.below {
            return Ok(());
        }
        set_attributes(tree, self.mount, Depth::One)
    }
}

/// Whether a mount with these options is read-only: of all words about that, the last counts.
pub fn is_read_only(options: &[String]) -> bool {
    Options::parse(options).flags.mount.set & attr::RDONLY != 0
}

/// `mounts[].options`, sorted by what they ask for; of two that contradict each other, the later counts.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Options {
    pub bind: Option<Depth>,
    pub remount: bool,
    pub flags: Flags,
    pub propagation: Vec<(Sharing, Depth)>,
    pub superblock: Vec<&'static CStr>,
    /// Flags for mount(2), if an option needs it.
    pub legacy: u64,
    pub copy_up: bool,
    pub symlinks: Symlinks,
    pub id_map: Option<IdMapOption>,
    /// The filesystem's own options.
    pub data: Vec<String>,
}

/// `idmap`, `ridmap`, or crun's `idmap=uids=…;gids=…`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct IdMapOption {
    pub depth: Depth,
    /// The mappings as they are written.
    pub mappings: Option<String>,
}

impl Options {
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            match OPTIONS.iter().find(|(name, _)| name == option) {
                Some((_, meaning)) => parsed.add(*meaning),
                None => match option.split_once("idmap=") {
                    Some((r @ ("" | "r"), mappings)) => {
                        let depth = if r.is_empty() { Depth::One } else { Depth::Tree };
                        let mappings = Some(mappings).filter(|text| !text.is_empty()).map(str::to_owned);
                        parsed.id_map = Some(IdMapOption { depth, mappings });
                    }
                    _ => parsed.data.extend(split_data(option).map(str::to_owned)),
                },
            }
        }
        parsed
    }

    fn add(&mut self, meaning: Meaning) {
        match meaning {
            Nothing => {}
            Bind(depth) => self.bind = if self.bind == Some(Depth::Tree) { self.bind } else { Some(depth) },
            Remount => self.remount = true,
            Flag(change) => self.flags.mount.add(change),
            NotAtime(value) => self.flags.take_back_atime(value),
            TreeFlag(change) => {
                self.flags.mount.add(change);
                self.flags.below.add(change);
            }
            Propagation(sharing, depth) => self.propagation.push((sharing, depth)),
            Superblock(flag) => self.superblock.push(flag),
            Legacy(set, clear) => self.legacy = self.legacy & !clear | set,
            CopyUp => self.copy_up = true,
            Links(symlinks) => self.symlinks = self.symlinks.add(symlinks),
            IdMap(depth) => self.id_map = Some(IdMapOption { depth, mappings: None }),
        }
    }

    /// Whether the filesystem's option `key` is given.
    pub fn has_data(&self, key: &str) -> bool {
        self.data.iter().any(|option| option.split('=').next() == Some(key))
    }
}

/// The single options in `option`: engines also write `mode=755,size=64m`, which mount(2) takes apart at its commas,
/// but for those in quotes (SELinux contexts) or behind a backslash (overlay's paths).
fn split_data(option: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = option.split(move |c| {
        let separates = c == ',' && !quoted && !escaped;
        quoted ^= c == '"';
        escaped = c == '\\' && !escaped;
        separates
    });
    parts.filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_that_the_spec_lists_is_known_once() {
        const SPEC: &str = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev \
            nodiratime noexec noiversion nolazytime norelatime nostrictatime nosuid private ratime rbind rdev \
            rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid runbindable rw shared silent slave \
            strictatime suid sync unbindable mand nomand nosymfollow symfollow rnosymfollow rsymfollow tmpcopyup \
            idmap ridmap copy-symlink src-nofollow dest-nofollow";
        for word in SPEC.split_whitespace() {
            assert_eq!(option_names().filter(|name| *name == word).count(), 1, "{word}");
        }
        assert_eq!(option_names().count(), SPEC.split_whitespace().count());
    }

    #[test]
    fn the_later_of_two_contradicting_options_counts() {
        let flags = |options: &[&str]| parse(options).flags.mount;
        assert_eq!(flags(&["ro", "rw"]), clear(attr::RDONLY));
        assert_eq!(flags(&["rw", "ro"]), set(attr::RDONLY));
        assert_eq!(flags(&["noatime", "strictatime"]), atime(attr::STRICTATIME));
        assert_eq!(flags(&["noatime", "relatime"]), atime(attr::RELATIME));
        assert_eq!(flags(&["relatime", "norelatime"]), Attributes::default());
        assert_eq!(flags(&["strictatime", "nostrictatime"]), Attributes::default());
        assert_eq!(flags(&["noatime", "norelatime", "nostrictatime"]), atime(attr::NOATIME));
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(Depth::Tree));
        assert_eq!(parse(&["silent", "loud"]).legacy, 0);
    }

    #[test]
    fn a_recursive_word_is_about_the_mount_too_in_its_turn() {
        let read_only = |options: &[&str]| {
            let flags = parse(options).flags;
            [flags.mount, flags.below].map(|flags| flags.set & attr::RDONLY != 0)
        };
        assert_eq!(read_only(&["rw", "rro"]), [true, true]);
        assert_eq!(read_only(&["rro", "rw"]), [false, true]);
        assert_eq!(read_only(&["ro", "rrw"]), [false, false]);
        assert_eq!(read_only(&["rrw", "ro"]), [true, false]);
        for (options, expected) in [
            (&["rw", "rro"][..], true),
            (&["rro", "rw"], false),
            (&["ro", "rrw"], false),
            (&["rro"], true),
            (&[], false),
        ] {
            let options: Vec<_> = options.iter().map(ToString::to_string).collect();
            assert_eq!(is_read_only(&options), expected, "{options:?}");
        }
    }

    #[test]
    fn unknown_options_are_the_filesystems_and_come_apart_at_commas() {
        let options = parse(&["nosuid", "mode=755,size=64m", r#"context="a:s0:c1,c2",uid=0"#, r"lowerdir=/a\,b"]);
        assert_eq!(options.data, ["mode=755", "size=64m", r#"context="a:s0:c1,c2""#, "uid=0", r"lowerdir=/a\,b"]);
        assert!(options.has_data("mode") && !options.has_data("mod"));
    }

    #[test]
    fn propagation_words_are_looked_up_both_ways() {
        for word in ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"] {
            assert_eq!(propagation_word(propagation(word).unwrap()), word);
        }
        assert_eq!(propagation("ro"), None);
    }

    #[test]
    fn idmap_takes_mappings_in_cruns_way() {
        let option = |depth, mappings: Option<&str>| Some(IdMapOption { depth, mappings: mappings.map(str::to_owned) });
        assert_eq!(parse(&["idmap"]).id_map, option(Depth::One, None));
        assert_eq!(parse(&["idmap", "ridmap"]).id_map, option(Depth::Tree, None));
        assert_eq!(parse(&["idmap=uids=0-1-2;gids=0-1-2"]).id_map, option(Depth::One, Some("uids=0-1-2;gids=0-1-2")));
        assert_eq!(parse(&["ridmap="]).id_map, option(Depth::Tree, None));
        assert_eq!(parse(&["noidmap=x"]).data, ["noidmap=x"]);
    }
}
