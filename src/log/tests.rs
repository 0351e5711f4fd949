use super::*;
use crate::error::field;
use crate::sys::{Errno, SysError};

const TIME: &str = "2026-11-23T19:46:04Z";

#[test]
fn text_lines_are_those_of_runc() {
    assert_eq!(
        text_line(TIME, Level::Error, "container does not exist"),
        "time=\"2026-11-23T19:46:04Z\" level=error msg=\"container does not exist\"\n"
    );
    assert_eq!(
        text_line(TIME, Level::Error, "unknown signal \"FOO\""),
        "time=\"2026-11-23T19:46:04Z\" level=error msg=\"unknown signal \\\"FOO\\\"\"\n"
    );
    assert_eq!(text_line(TIME, Level::Warning, "a-b_c/d"), format!("time=\"{TIME}\" level=warning msg=a-b_c/d\n"));
    assert_eq!(logfmt_value("a\nb\t\u{1b}é"), "\"a\\nb\\t\\x1bé\"");
}

#[test]
fn json_lines_are_those_of_runc() {
    assert_eq!(
        json_line(TIME, Level::Error, "container does not exist", None),
        "{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"2026-11-23T19:46:04Z\"}\n"
    );
}

#[test]
fn an_errors_json_line_says_what_is_known() {
    let error = anyhow::Error::from(SysError::new("mkdirat", Errno::EACCES))
        .context(field!("mounts[3]"))
        .context("create web1");
    let line = json_line(TIME, Level::Error, &format!("{error:#}"), Some(&Facts::of("create", None, &error)));
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["level"], "error");
    assert_eq!(object["msg"], "create web1: mounts[3]: mkdirat: permission denied");
    assert_eq!(object["time"], TIME);
    assert_eq!(object["code"], "config");
    assert_eq!(object["phase"], "create");
    assert_eq!(object["field"], "/mounts/3");
    assert_eq!(object["spec"], "config.md#mounts");
    assert_eq!(object["errno"], "EACCES");
    assert_eq!(object["call"], "mkdirat");
}

#[test]
fn people_get_one_line() {
    assert_eq!(
        console_line(Level::Error, "kill web1: container not running"),
        "ocirt: kill web1: container not running\n"
    );
    assert_eq!(console_line(Level::Warning, "two\nlines\u{1b}[2J"), "ocirt: warning: two\\nlines\\u{1b}[2J\n");
}

#[test]
fn times_are_rfc_3339() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(rfc3339(951_868_799), "2000-02-29T23:59:59Z");
    assert_eq!(rfc3339(1_795_463_164), "2026-11-23T19:46:04Z");
    assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
}

#[test]
fn a_log_file_is_appended_to_and_readable() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("ocirt-log-{}", std::process::id()));
    std::fs::write(&path, "first\n").unwrap();
    let log = Log::open(Some(path.as_os_str()), Format::Text, Level::Warning).unwrap();
    log.warn("second");
    log.debug("not written");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(text.starts_with("first\ntime=\""), "{text}");
    assert!(text.ends_with("\" level=warning msg=second\n"), "{text}");

    drop(Log::open(Some(path.as_os_str()), Format::Json, Level::Info).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(mode & 0o600, 0o600);
    assert_eq!(mode & 0o111, 0);
}

#[test]
fn an_unwritable_log_names_itself() {
    let error = Log::open(Some(OsStr::new("/nonexistent/log")), Format::Text, Level::Info).err().unwrap();
    assert_eq!(format!("{error:#}"), "--log \"/nonexistent/log\": open: no such file or directory");
}

#[test]
fn unknown_formats_and_levels_are_refused() {
    assert_eq!(Format::parse("xx").unwrap_err().to_string(), "invalid log-format: xx");
    assert_eq!(Format::parse("json").unwrap(), Format::Json);
    assert_eq!(Level::parse("loud").unwrap_err().to_string(), "invalid log-level: loud");
    assert!(Level::parse("debug").unwrap() > Level::parse("warning").unwrap());
}

#[test]
fn a_place_may_be_a_file_by_name() {
    let path = std::env::temp_dir().join(format!("ocirt-log-file-{}", std::process::id()));
    let log = Log::open(Some(OsStr::new(&format!("file:{}", path.display()))), Format::Text, Level::Info).unwrap();
    log.warn("said");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(text.contains("msg=said"), "{text}");
    let error = Log::open(Some(OsStr::new("file:")), Format::Text, Level::Info).err().unwrap();
    assert_eq!(format!("{error:#}"), "--log \"\": open: no such file or directory");
}
