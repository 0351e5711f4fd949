//! Logs: a line of the shim's own, as logrus, and so containerd and its shims, write it; and what a runtime's says.

use std::fmt::Write;

use serde::Deserialize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// An entry of a runtime's log.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    level: String,
    msg: String,
}

/// The last error in the text of a runtime's log, which is one JSON object after the other: runc and ocirt have each on a
/// line, crun spreads them.
pub fn last_error(text: &str) -> Option<String> {
    let entries = serde_json::Deserializer::from_str(text).into_iter::<Entry>().map_while(Result::ok);
    entries.filter(|entry| entry.level == "error").last().map(|entry| entry.msg.trim().to_owned())
}

/// The longest that is written: PIPE_BUF (pipe(7)), so that lines of several writers are not mixed.
const LONGEST: usize = 4096;

/// `time="…" level=… msg="…" runtime=…`, in UTC; what is too long is cut.
pub fn line(seconds: i64, nanos: i32, level: Level, words: &str) -> String {
    let level = match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let (year, month, day) = date(seconds.div_euclid(86400));
    let time = seconds.rem_euclid(86400);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let mut line = format!(
        "time=\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z\" level={level} msg=\""
    );
    let end = "\" runtime=io.containerd.ocirt.v2\n";
    for letter in words.chars() {
        let before = line.len();
        // A String takes whatever is written to it.
        let _ = match letter {
            '"' | '\\' => write!(line, "\\{letter}"),
            '\n' => write!(line, "\\n"),
            letter if letter.is_control() => write!(line, "\\x{:02x}", u32::from(letter)),
            letter => write!(line, "{letter}"),
        };
        if line.len() + end.len() > LONGEST {
            line.truncate(before);
            break;
        }
    }
    line + end
}

/// The date of a day since 1970-01-01, by eras of 400 years that begin in March: 146,097 days each.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_that_of_logrus() {
        let expected = "time=\"2026-11-30T16:42:07.000000005Z\" level=warning msg=\"a \\\"b\\\"\\n\\\\\\x01\" \
                        runtime=io.containerd.ocirt.v2\n";
        // date -u -d @1796056927
        assert_eq!(line(1_796_056_927, 5, Level::Warning, "a \"b\"\n\\\u{1}"), expected);
    }

    #[test]
    fn the_last_error_of_a_runtime_is_found() {
        let lines = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"second \",\"time\":\"x\"}\n\
                     {\"level\":\"warning\",\"msg\":\"third\"}\n{\"level\":\"err";
        assert_eq!(last_error(lines).as_deref(), Some("second"));
        // crun 1.28
        let spread = "{\n  \"msg\": \"no such\",\n  \"level\": \"error\",\n  \"time\": \"x\"\n}{\"level\":\"debug\"}";
        assert_eq!(last_error(spread).as_deref(), Some("no such"));
        assert_eq!(last_error(""), None);
        assert_eq!(last_error("no json"), None);
    }

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn a_line_is_written_at_once_or_not_at_all() {
        let long = line(0, 0, Level::Info, &"ü\"".repeat(4096));
        assert!(long.len() <= LONGEST && long.ends_with("\" runtime=io.containerd.ocirt.v2\n"), "{}", long.len());
    }
}
