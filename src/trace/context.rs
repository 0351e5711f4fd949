//! W3C Trace Context ("traceparent", version 00): whose request a command is a part of.

use crate::sys::{Result, random};

/// The ids of one command's span.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    pub trace: String,
    pub span: String,
    pub parent: Option<String>,
    pub flags: String,
}

impl TraceContext {
    /// A new span below the caller's, whose TRACEPARENT is `parent`; of a trace of its own, if that is none.
    pub fn below(parent: Option<&str>) -> Result<Self> {
        let span = random::hex(&random::bytes::<8>()?);
        Ok(match parent.and_then(parse) {
            Some((trace, parent, flags)) => {
                Self { trace: trace.to_owned(), span, parent: Some(parent.to_owned()), flags: flags.to_owned() }
            }
            // 01: somebody records it.
            None => Self { trace: random::hex(&random::bytes::<16>()?), span, parent: None, flags: "01".to_owned() },
        })
    }

    /// What a program below this span has as its TRACEPARENT.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }
}

/// Trace id, span id and flags of a header. A later version may have more behind them; an id of zeros is none.
fn parse(header: &str) -> Option<(&str, &str, &str)> {
    let mut parts = header.split('-');
    let [version, trace, span, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
    let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    (is_known && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2)).then_some((trace, span, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_span_is_below_its_callers() {
        let context = TraceContext::below(Some(&format!("00-{TRACE}-00f067aa0ba902b7-00"))).unwrap();
        assert_eq!((context.trace.as_str(), context.parent.as_deref()), (TRACE, Some("00f067aa0ba902b7")));
        assert_eq!(context.header(), format!("00-{TRACE}-{}-00", context.span));
        assert_ne!(context.span, "00f067aa0ba902b7");
    }

    #[test]
    fn what_is_no_header_begins_a_trace() {
        for header in [
            None,
            Some(""),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
        ] {
            let context = TraceContext::below(header).unwrap();
            assert_eq!(context.parent, None, "{header:?}");
            assert!(parse(&context.header()).is_some_and(|(trace, ..)| trace.len() == 32 && trace != TRACE));
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        assert!(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
