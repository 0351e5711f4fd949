//! Where a process's standard streams go, by the URIs of `Create` and `Exec`. That of standard output decides for both
//! output streams, unless it is a FIFO.

use std::path::PathBuf;

use super::{Refused, refuse};

/// A process's three streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stdio {
    /// A FIFO, or none: /dev/null.
    pub stdin: Option<PathBuf>,
    pub output: Output,
}

/// Where standard output and standard error go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// FIFOs that the client has made; none: /dev/null.
    Fifos { stdout: Option<PathBuf>, stderr: Option<PathBuf> },
    /// Both are appended to one file.
    File(PathBuf),
    /// Both are read by a program.
    Logger(Logger),
}

/// A program that reads both streams: `binary://PATH?KEY=VALUE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logger {
    pub program: PathBuf,
    /// Each key and its value, in the URI's order.
    pub arguments: Vec<String>,
    pub ready: Ready,
}

/// How a logger says on descriptor 5 that it is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    /// `binary`: by a byte, or by closing it. So one that dies at once looks ready (containerd #12490).
    ByteOrEnd,
    /// `binary-v2`, since containerd 2.2: by a byte.
    Byte,
}

impl Stdio {
    /// Reads the URIs of a request.
    pub fn parse(stdin: &str, stdout: &str, stderr: &str) -> Result<Self, Refused> {
        let output = match stdout.split_once("://") {
            Some(("file", path)) => Output::File(absolute(stdout, &unescape(path, Plus::Itself)?)?),
            Some(("binary", rest)) => Output::Logger(Logger::parse(stdout, rest, Ready::ByteOrEnd)?),
            Some(("binary-v2", rest)) => Output::Logger(Logger::parse(stdout, rest, Ready::Byte)?),
            _ => Output::Fifos { stdout: fifo(stdout)?, stderr: fifo(stderr)? },
        };
        Ok(Self { stdin: fifo(stdin)?, output })
    }
}

impl Logger {
    fn parse(uri: &str, rest: &str, ready: Ready) -> Result<Self, Refused> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut arguments = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            arguments.push(unescape(key, Plus::Space)?);
            arguments.push(unescape(value, Plus::Space)?);
        }
        Ok(Self { program: absolute(uri, &unescape(path, Plus::Itself)?)?, arguments, ready })
    }
}

/// A bare path is not escaped.
fn fifo(uri: &str) -> Result<Option<PathBuf>, Refused> {
    match uri.split_once("://") {
        None if uri.is_empty() => Ok(None),
        None => Ok(Some(uri.into())),
        Some(("fifo", path)) => Ok(Some(absolute(uri, path)?)),
        Some((scheme, _)) => refuse!("stdio {uri:?}: {scheme} is no scheme for this stream"),
    }
}

fn absolute(uri: &str, path: &str) -> Result<PathBuf, Refused> {
    if !path.starts_with('/') {
        refuse!("stdio {uri:?}: not an absolute path");
    }
    if path.contains('\0') {
        refuse!("stdio {uri:?}: a NUL byte");
    }
    Ok(path.into())
}

/// What `+` means in a part of a URI.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Space,
}

/// Go's `url.PathUnescape` and `url.QueryUnescape`.
fn unescape(text: &str, plus: Plus) -> Result<String, Refused> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => refuse!("stdio {text:?}: % without two digits"),
                }
            }
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => refuse!("stdio {text:?}: neither UTF-8 nor free of NUL bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: &str) -> Output {
        Stdio::parse("", stdout, "/never/looked/at").unwrap().output
    }

    fn error(stdout: &str) -> String {
        Stdio::parse("", stdout, "").unwrap_err().0
    }

    #[test]
    fn paths_and_fifo_uris_are_fifos() {
        let stdio = Stdio::parse("/f/in", "fifo:///f/out", "/f/%41+err").unwrap();
        assert_eq!(stdio.stdin, Some("/f/in".into()));
        let expected = Output::Fifos { stdout: Some("/f/out".into()), stderr: Some("/f/%41+err".into()) };
        assert_eq!(stdio.output, expected, "a bare path is as it is");
        let none = Stdio::parse("", "", "").unwrap();
        assert_eq!((none.stdin, none.output), (None, Output::Fifos { stdout: None, stderr: None }));
    }

    #[test]
    fn a_file_takes_both_streams() {
        assert_eq!(output("file:///var/log/a%20b+c"), Output::File("/var/log/a b+c".into()));
    }

    #[test]
    fn a_logger_has_its_keys_and_values_for_arguments_in_their_order() {
        let Output::Logger(logger) = output("binary:///usr/bin/log?z=1&a=two+words%21&flag&z=3") else { panic!() };
        assert_eq!(logger.program, PathBuf::from("/usr/bin/log"));
        assert_eq!(logger.arguments, ["z", "1", "a", "two words!", "flag", "", "z", "3"]);
        assert_eq!(logger.ready, Ready::ByteOrEnd);
        let Output::Logger(logger) = output("binary-v2:///usr/bin/log") else { panic!() };
        assert_eq!((logger.arguments, logger.ready), (Vec::new(), Ready::Byte));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        assert_eq!(error("npipe:///x"), "stdio \"npipe:///x\": npipe is no scheme for this stream");
        assert_eq!(error("file://relative"), "stdio \"file://relative\": not an absolute path");
        assert_eq!(error("binary://?a=b"), "stdio \"binary://?a=b\": not an absolute path");
        assert!(error("file:///a%0").contains("% without two digits"));
        assert!(error("file:///a%00").contains("NUL"));
        let input = Stdio::parse("file:///in", "", "").unwrap_err().0;
        assert_eq!(input, "stdio \"file:///in\": file is no scheme for this stream");
        assert!(Stdio::parse("", "", "binary:///log").is_err(), "standard output decides, and is none");
    }
}
