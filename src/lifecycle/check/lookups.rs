//! What init, or a hook's start, would meet: sources of bind mounts, the program, the programs of hooks, the user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::runtime::{Hook, LinuxNamespaceType, Mount, Process, Spec};

use super::image::{Image, Look};
use crate::container::lint::{Author, Code, Finding, is_bind};
use crate::container::process::env;
use crate::container::validate;
use crate::error::io_error;
use crate::sys::Words;
use crate::sys::file::{Stat, kind};

pub fn all(spec: &Spec, bundle: &Path, author: Option<Author>, found: &mut Vec<Finding>) {
    for (index, mount) in spec.mounts().iter().flatten().enumerate().filter(|(_, mount)| is_bind(mount)) {
        found.extend(source(index, mount, bundle));
    }
    let image = spec.root().as_ref().and_then(|root| Image::open(&bundle.join(root.path()), spec, bundle));
    hooks(spec, image.as_ref(), found);
    let (Some(process), Some(image)) = (spec.process(), image) else { return };
    let is_mapped = spec
        .linux()
        .iter()
        .filter_map(|linux| linux.namespaces().as_ref())
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    found.extend(program(process, &image, is_mapped));
    // Kubernetes runs images as users that they do not know.
    if author != Some(Author::Cri) {
        found.extend(user(process, &image));
    }
}

fn source(index: usize, mount: &Mount, bundle: &Path) -> Option<Finding> {
    let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty())?;
    let has = |word: &str| mount.options().iter().flatten().any(|option| option == word);
    // What is there already is remounted.
    if has("remount") {
        return None;
    }
    let path = bundle.join(source);
    let itself = has("copy-symlink") || has("src-nofollow");
    let looked = if itself { fs::symlink_metadata(&path) } else { fs::metadata(&path) };
    let error = looked.err()?;
    let why = format!("{}: {}", path.display(), Words(io_error("stat", &error).errno));
    Some(Finding::new(Code::SourceMissing, format!("mounts[{index}].source"), why))
}

fn hooks(spec: &Spec, image: Option<&Image>, found: &mut Vec<Finding>) {
    let Some(lists) = spec.hooks() else { return };
    for (list, hooks) in validate::hook_lists(lists).into_iter().filter(|(list, _)| *list != "startContainer") {
        for (index, hook) in hooks.iter().flatten().enumerate() {
            found.extend(hook_of_host(format!("hooks.{list}[{index}].path"), hook));
        }
    }
    // Of the image, since its root is the root by then.
    let Some(image) = image else { return };
    for (index, hook) in lists.start_container().iter().flatten().enumerate() {
        let field = format!("hooks.startContainer[{index}].path");
        let path = hook.path().display();
        match image.look(hook.path()) {
            Look::Missing(error) => {
                found.push(Finding::new(
                    Code::HookMissing,
                    field,
                    format!("{path} in the image: {}", Words(error.errno)),
                ));
            }
            Look::There(stat) if stat.kind() != kind::REGULAR || stat.permissions() & 0o111 == 0 => {
                found.push(Finding::new(
                    Code::HookNotExecutable,
                    field,
                    format!("{path} in the image is not executable"),
                ));
            }
            _ => {}
        }
    }
}

fn hook_of_host(field: String, hook: &Hook) -> Option<Finding> {
    // What is not absolute is refused.
    let path = Some(hook.path()).filter(|path| path.is_absolute())?;
    match fs::metadata(path) {
        Err(error) => {
            let why = format!("{}: {}", path.display(), Words(io_error("stat", &error).errno));
            Some(Finding::new(Code::HookMissing, field, why))
        }
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            Some(Finding::new(Code::HookNotExecutable, field, format!("{} is not executable", path.display())))
        }
        Ok(_) => None,
    }
}

/// The program as init will look for it: in the image, by its own PATH, for its user.
fn program(process: &Process, image: &Image, is_mapped: bool) -> Option<Finding> {
    const FIELD: &str = "process.args[0]";
    let name = process.args().as_ref()?.first()?;
    let mut best: Option<String> = None;
    if name.contains('/') {
        match image.look(&process.cwd().join(name)) {
            Look::Unknown => return None,
            Look::Missing(error) => {
                let why = format!("{name} in the image: {}", Words(error.errno));
                return Some(Finding::new(Code::ProgramMissing, FIELD, why));
            }
            Look::There(stat) => return not_executable(name, &stat, process, is_mapped),
        }
    }
    let environment = env::compile(process.env().as_deref().unwrap_or_default(), process.user().uid()).ok()?;
    let Some(path) = environment.path() else {
        return Some(Finding::new(Code::ProgramMissing, FIELD, format!("{name}: process.env has no PATH")));
    };
    for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
        match image.look(&Path::new(directory).join(name)) {
            Look::Unknown => return None,
            Look::Missing(_) => {}
            Look::There(stat) => match not_executable(name, &stat, process, is_mapped) {
                None => return None,
                Some(finding) => best = best.or(Some(finding.why)),
            },
        }
    }
    Some(match best {
        Some(why) => Finding::new(Code::ProgramNotExecutable, FIELD, why),
        None => Finding::new(
            Code::ProgramMissing,
            FIELD,
            format!("{name} is in no directory of PATH ({path}) in the image"),
        ),
    })
}

fn not_executable(name: &str, stat: &Stat, process: &Process, is_mapped: bool) -> Option<Finding> {
    let user = process.user();
    let why = if stat.is_directory() {
        "is a directory".to_owned()
    } else if stat.kind() != kind::REGULAR {
        "is no regular file".to_owned()
    } else if stat.permissions() & 0o111 == 0 {
        format!("has no permission to be executed (mode {:04o})", stat.permissions())
    } else {
        // Which id of the image is whose in a user namespace, id-mapped mounts may say otherwise.
        let groups = user.additional_gids().iter().flatten();
        let is_in_group = stat.gid == user.gid() || groups.into_iter().any(|gid| *gid == stat.gid);
        let shift = if stat.uid == user.uid() {
            6
        } else if is_in_group {
            3
        } else {
            0
        };
        if is_mapped || user.uid() == 0 || stat.permissions() >> shift & 1 == 1 {
            return None;
        }
        let (mode, owner, group) = (stat.permissions(), stat.uid, stat.gid);
        format!("may not be executed by user {}:{} (mode {mode:04o}, owner {owner}:{group})", user.uid(), user.gid())
    };
    Some(Finding::new(Code::ProgramNotExecutable, "process.args[0]", format!("{name} in the image {why}")))
}

/// Programs that ask for their user's name or home find none.
fn user(process: &Process, image: &Image) -> Option<Finding> {
    let uid = process.user().uid();
    let passwd = image.read(Path::new("/etc/passwd"))?;
    let is_known = passwd.lines().any(|line| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(uid)));
    let why = || format!("/etc/passwd of the image has no user {uid}");
    (!is_known && uid != 0).then(|| Finding::new(Code::UserUnknown, "process.user.uid", why()))
}
