//! What containerd writes to the standard input of `start` and `-info`: the runtime's options as an `Any`, nothing, or
//! from 2.3 on BootstrapParams, which have them among their extensions.

use prost::{Message, Name};

use super::flags::Caller;
use super::{Refused, refuse};
use crate::api::bootstrap::BootstrapParams;
use crate::api::known::Any;
use crate::api::options::{Options, RuntimeOptions};
use crate::wire::elements;

/// The most that is read: Go's limit too.
pub const LIMIT: usize = 10 << 20;

/// What was on standard input.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// containerd up to 2.2.
    Options(Option<Any>),
    /// containerd 2.3 and later.
    Bootstrap(BootstrapParams),
}

/// Reads the input of `start`. The two messages can be confused on the wire: it is BootstrapParams only if it names the
/// container and the namespace that the flags name.
pub fn of_start(bytes: &[u8], caller: &Caller) -> Result<Input, Refused> {
    check(bytes)?;
    if let Ok(params) = BootstrapParams::decode(bytes)
        && params.instance_id == caller.id
        && params.namespace == caller.namespace
    {
        return Ok(Input::Bootstrap(params));
    }
    Ok(Input::Options(of_info(bytes)?))
}

/// Reads the input of `-info`.
pub fn of_info(bytes: &[u8]) -> Result<Option<Any>, Refused> {
    check(bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match Any::decode(bytes) {
        Ok(any) => Ok(Some(any)),
        Err(error) => refuse!("standard input: {error}"),
    }
}

fn check(bytes: &[u8]) -> Result<(), Refused> {
    if bytes.len() > LIMIT {
        refuse!("standard input: more than {LIMIT} bytes");
    }
    match elements::count(bytes, 0) {
        Ok(fields) if fields <= elements::LIMIT => Ok(()),
        Ok(fields) => refuse!("standard input: {fields} fields: more than {}", elements::LIMIT),
        Err(error) => refuse!("standard input: {error}"),
    }
}

impl Input {
    /// The runtime's options. Of several extensions it is the one whose type is theirs.
    pub fn options(&self) -> Option<&Any> {
        let is_options =
            |any: &&Any| [Options::full_name(), RuntimeOptions::full_name()].contains(&any.type_name().into());
        match self {
            Self::Options(any) => any.as_ref(),
            Self::Bootstrap(params) => {
                params.extensions.iter().filter_map(|extension| extension.value.as_ref()).find(is_options)
            }
        }
    }

    /// Where sockets go, if containerd says so.
    pub fn socket_dir(&self) -> Option<&str> {
        match self {
            Self::Options(_) => None,
            Self::Bootstrap(params) => params.socket_dir.as_deref().filter(|directory| !directory.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(namespace: &str) -> Caller {
        Caller { namespace: namespace.to_owned(), id: "c1".to_owned(), ..Caller::default() }
    }

    /// Written out by hand: instance_id, namespace, an extension of another type, one with options, socket_dir.
    const PARAMS: &[u8] = b"\x0a\x02c1\x12\x06k8s.io\x42\x0a\x0a\x08\x0a\x01x\x12\x03\x0a\x01y\
        \x42\x23\x0a\x21\x0a\x1acontainerd.runc.v1.Options\x12\x03\x3a\x01r\x4a\x04/s/d";

    #[test]
    fn bootstrap_params_are_known_by_the_container_that_they_name() {
        let input = of_start(PARAMS, &caller("k8s.io")).unwrap();
        assert!(matches!(input, Input::Bootstrap(_)));
        assert_eq!(input.socket_dir(), Some("/s/d"));
        let options = input.options().unwrap();
        assert_eq!(
            (options.type_url.as_str(), options.value.as_slice()),
            ("containerd.runc.v1.Options", b"\x3a\x01r".as_slice())
        );
        // For another container it is no BootstrapParams, whatever it looks like.
        assert!(matches!(of_start(PARAMS, &caller("moby")).unwrap(), Input::Options(_)));
    }

    #[test]
    fn options_and_nothing_are_read() {
        let any = b"\x0a\x1acontainerd.runc.v1.Options\x12\x03\x3a\x01r";
        let input = of_start(any, &caller("n")).unwrap();
        assert_eq!(input.options().unwrap().value, b"\x3a\x01r");
        assert_eq!(input.socket_dir(), None);
        assert_eq!(of_start(b"", &caller("n")).unwrap(), Input::Options(None));
    }

    #[test]
    fn what_is_neither_is_an_error() {
        assert!(of_start(b"\xff\xff", &caller("n")).unwrap_err().0.starts_with("standard input: "));
        let many = b"\x42\0".repeat(elements::LIMIT + 1);
        assert_eq!(of_start(&many, &caller("n")).unwrap_err().0, "standard input: 4097 fields: more than 4096");
        assert!(of_info(&vec![0; LIMIT + 1]).unwrap_err().0.contains("more than"));
    }
}
