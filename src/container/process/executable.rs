//! `process.args`: which program the container's process becomes.
//!
//! It is looked for inside the container with the final ids, before `create` reports success: a missing program is
//! create's error. Engines tell the cases apart by the words (Docker's exit status 126 or 127).

use core::cell::Cell;
use std::ffi::CString;
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::program::{self, Strings};
use crate::sys::{Errno, Fault, SysError};

/// The arguments, and where the program may be.
pub struct Executable {
    name: String,
    args: Strings,
    candidates: Vec<CString>,
    kind: Lookup,
    found: Cell<Option<usize>>,
}

/// What is usually meant by a name such as "/bin/sh -c".
const ONE_WORD: &str = "args[0] is the program alone, and each argument an entry of its own";

/// Where the program is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lookup {
    /// `args[0]` has a "/": it is the path, relative to the working directory.
    Path,
    /// In the directories of $PATH.
    Search,
    /// It would be a search, but `process.env` has no PATH; like runc, no default is made up.
    Nowhere,
}

/// The prepared program; `path` is the container's $PATH. A relative directory of it is passed over, as in runc.
pub fn compile(args: &[String], path: Option<&str>) -> Result<Executable> {
    let Some(name) = args.first() else { bail!(field!("process.args"; "args must not be empty")) };
    let string = |text: &str, index: usize| {
        CString::new(text).with_context(|| field!("process.args[{index}]"; "contains a NUL byte: {text:?}"))
    };
    let strings = args.iter().enumerate().map(|(index, arg)| string(arg, index)).collect::<Result<_>>()?;
    let (kind, candidates) = match path {
        _ if name.contains('/') => (Lookup::Path, vec![string(name, 0)?]),
        None => (Lookup::Nowhere, Vec::new()),
        Some(path) => {
            let absolute = path.split(':').filter(|dir| dir.starts_with('/') && !name.is_empty());
            let paths = absolute.map(|dir| string(&format!("{}/{name}", dir.trim_end_matches('/')), 0));
            (Lookup::Search, paths.collect::<Result<_>>()?)
        }
    };
    Ok(Executable { name: name.clone(), args: Strings::new(strings), candidates, kind, found: Cell::new(None) })
}

impl Executable {
    /// Finds the program, or says why there is none to execute. Belongs after the ids, capabilities and working
    /// directory.
    pub fn find(&self) -> Result<(), Fault> {
        for (index, candidate) in self.candidates.iter().enumerate() {
            match program::check_executable(candidate) {
                Ok(()) => {
                    self.found.set(Some(index));
                    return Ok(());
                }
                Err(SysError { errno: Errno::ENOENT, .. }) if self.kind == Lookup::Path && self.is_several_words() => {
                    return Err(Fault::new("exec", Errno::ENOENT, ONE_WORD));
                }
                Err(error) if self.kind == Lookup::Path => return Err(explain(error)),
                Err(_) => {}
            }
        }
        let words = match self.kind {
            Lookup::Search if self.is_several_words() => {
                "executable file not found in $PATH; args[0] is the program alone, and each argument an entry of its own"
            }
            Lookup::Nowhere => "executable file not found in $PATH; process.env has no PATH",
            _ => "executable file not found in $PATH",
        };
        Err(Fault::new("exec", Errno::ENOENT, words))
    }

    /// Becomes the program that [`Self::find`] found. Returns only if that fails.
    pub fn exec(&self, env: &Strings) -> Fault {
        let Some(path) = self.found.get().and_then(|index| self.candidates.get(index)) else {
            return Fault::new("exec", Errno::ENOENT, "executable file not found in $PATH");
        };
        let error = program::execve(path, &self.args, env);
        // It was found: what is missing is named in its first line, or in its ELF header (execve(2), ENOENT).
        if error.errno == Errno::ENOENT {
            return Fault::new(error.call, error.errno, "the interpreter that the file names is not in the container");
        }
        error.about(path)
    }

    fn is_several_words(&self) -> bool {
        self.name.contains([' ', '\t', '\n'])
    }
}

/// Docker of Debian 12 knows "permission denied" for what is a directory, later ones also "is a directory".
fn explain(error: SysError) -> Fault {
    match error.errno {
        Errno::EISDIR => Fault::new("exec", Errno::EACCES, "is a directory"),
        errno => Fault { errno, ..SysError::new("exec", errno).into() },
    }
}

impl fmt::Display for Executable {
    /// `exec /bin/sh`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_several_words() { write!(f, "exec {:?}", self.name) } else { write!(f, "exec {}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn compiled(name: &str, path: Option<&str>) -> Executable {
        compile(&[name.to_owned()], path).expect("compiles")
    }

    fn words(name: &str, path: Option<&str>) -> String {
        compiled(name, path).find().expect_err("not there").to_string()
    }

    #[test]
    fn no_arguments_or_a_nul_in_one_is_an_error_that_names_it() {
        assert!(compile(&[], None).map(drop).expect_err("empty").to_string().starts_with("process.args: "));
        let error = compile(&["a".into(), "b\0c".into()], None).map(drop).expect_err("NUL").to_string();
        assert!(error.starts_with("process.args[1]: contains a NUL byte"), "{error}");
    }

    #[test]
    fn the_search_takes_the_first_program_of_the_path() {
        let sh = compiled("sh", Some("/nope:/bin:/usr/bin"));
        heap_free(|| sh.find()).expect("there is a shell");
        assert_eq!(sh.found.get(), Some(1));
        assert_eq!(sh.to_string(), "exec sh");
    }

    #[test]
    fn a_failed_search_says_what_engines_look_for() {
        let missing = "exec: no such file or directory (executable file not found in $PATH)";
        assert_eq!(words("nope", Some("/bin")), missing);
        assert_eq!(words("passwd", Some("/etc")), missing, "not executable");
        assert_eq!(words("", Some("/bin")), missing);
        assert_eq!(words("sh", Some("")), missing);
        assert!(words("sh", None).ends_with("(executable file not found in $PATH; process.env has no PATH)"));
    }

    #[test]
    fn a_path_that_cannot_be_executed_says_why() {
        assert_eq!(words("/bin/nope", None), "exec: no such file or directory");
        assert_eq!(words("/etc/passwd", None), "exec: permission denied");
        assert_eq!(words("/etc", None), "exec: permission denied (is a directory)");
        assert_eq!(words("/etc/passwd/x", None), "exec: not a directory");
        assert_eq!(words("/dev/null", None), "exec: permission denied");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "in a process of its own")]
    fn a_relative_directory_of_the_path_is_passed_over() {
        in_a_child(|| {
            std::env::set_current_dir("/bin")?;
            for path in ["", ".", ":", "../bin"] {
                assert!(compiled("sh", Some(path)).find().is_err(), "{path:?}");
            }
            // But a name with a "/" is relative to the working directory.
            Ok(compiled("./sh", None).find()?)
        });
    }

    #[test]
    fn permission_is_that_of_the_final_user() {
        let file = std::env::temp_dir().join(format!("ocirt-exec-{}", std::process::id()));
        std::fs::write(&file, "#!/bin/true\n").expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o700)).expect("own");
        let name = file.to_str().expect("a name").to_owned();
        in_a_child(|| {
            compiled(&name, None).find()?;
            crate::sys::credentials::set_uid(1000)?;
            assert_eq!(compiled(&name, None).find().expect_err("not ours").errno, Errno::EACCES);
            Ok(())
        });
        std::fs::remove_file(file).expect("was made");
    }

    #[test]
    fn the_program_gets_its_arguments_and_the_spare_variable() {
        in_a_child(|| {
            let script = r#"[ "$HOME" = /h ] && [ "$A" = 1 ] && [ "$1" = x ]"#;
            let args = ["sh", "-c", script, "sh", "x"].map(ToOwned::to_owned);
            let env = Strings::with_room(vec![c"A=1".to_owned()], [64, 64]);
            env.set_spare(1, &[b"HOME=", b"/h"])?;
            let program = compile(&args, Some("/bin"))?;
            heap_free(|| program.find())?;
            Err(program.exec(&env).into())
        });
    }
}
