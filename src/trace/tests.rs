use std::fs;
use std::io::BufReader;
use std::path::PathBuf;

use super::read::{Recording, read};
use super::*;
use crate::sys::scratch::Directory;

fn recorded(path: &Path) -> Recording {
    read(BufReader::new(File::open(path).unwrap())).unwrap()
}

fn file() -> (Directory, PathBuf) {
    let directory = Directory::new();
    let path = directory.join("trace.json");
    (directory, path)
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn what_is_recorded_is_read() {
    let (_directory, path) = file();
    let parent = OsStr::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let recorder = Recorder::open(path.as_os_str(), Some(parent)).unwrap();
    recorder.begin_command("create", Some("web1"));
    let begun = monotonic();
    recorder.begin(Category::Cgroup, "cgroup", begun);
    recorder.end(begun + ms(2), false);
    recorder.begin(Category::Hook, "hooks.prestart[0]", begun + ms(3));
    recorder.end(begun + ms(4), true);
    let field = "mounts[0]";
    let done =
        Done { category: Category::Step, name: "mount \"x\"\n", field, begun: begun + ms(1), end: begun + ms(6) };
    recorder.steps(&[done]);
    recorder.begin(Category::Wait, "wait for init", begun + ms(7));
    recorder.end_command(&Ok(3));
    let text = fs::read_to_string(&path).unwrap();
    let closed: Value = serde_json::from_str(&(text.trim_end().trim_end_matches(',').to_owned() + "]")).unwrap();
    assert!(closed.as_array().unwrap().iter().all(|event| event["pid"] == std::process::id()));
    let Recording { runs, foreign } = recorded(&path);
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((foreign, run.name().as_str()), (0, "create web1"));
    assert_eq!(run.parent_id.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(run.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    let environment = recorder.environment().unwrap();
    assert_eq!(environment.to_str().unwrap(), format!("TRACEPARENT=00-{}-{}-01", run.trace_id, run.span_id));
    let spans: Vec<_> =
        run.spans.iter().map(|span| (span.category, span.lane, span.name.as_str(), span.failed)).collect();
    let (runtime, init) = (Lane::Runtime, Lane::Init);
    assert_eq!(
        spans,
        [
            (Category::Cgroup, runtime, "cgroup", false),
            (Category::Step, init, "mount \"x\"\n", false),
            (Category::Hook, runtime, "hooks.prestart[0]", true),
            (Category::Wait, runtime, "wait for init", false),
        ]
    );
    let lengths: Vec<f64> = run.spans.iter().filter_map(|span| span.duration_us).map(f64::round).collect();
    // The end of the command was the end of what had not ended.
    assert_eq!(lengths[..3], [2000.0, 5000.0, 1000.0]);
}

#[test]
fn a_command_that_was_killed_has_no_end() {
    let (_directory, path) = file();
    let recorder = Recorder::open(path.as_os_str(), None).unwrap();
    recorder.begin_command("create", Some("web1"));
    recorder.begin(Category::Hook, "hooks.prestart[0]", monotonic());
    let recording = recorded(&path);
    assert_eq!(recording.runs[0].duration_us, None);
    let text = text::draw(&recording);
    assert!(text.contains(", and did not end\n") && text.contains("hooks.prestart[0], which did not end\n"), "{text}");
}

#[test]
fn commands_that_begin_a_file_together_begin_it_once() {
    let (_directory, path) = file();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let path = path.as_os_str();
            scope.spawn(move || {
                let recorder = Recorder::open(path, None).unwrap();
                recorder.begin_command("state", Some(&format!("web{number}")));
                recorder.end_command(&Ok(0));
            });
        }
    });
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("[\n") && text.matches("[\n").count() == 1, "{text}");
    let recording = recorded(&path);
    assert_eq!((recording.runs.len(), recording.foreign), (20, 0));
}

#[test]
fn what_is_no_file_is_refused() {
    let (directory, _) = file();
    let of = |path: &Path| format!("{:#}", Recorder::open(path.as_os_str(), None).unwrap_err());
    assert!(of(directory.path()).starts_with("--trace "), "{}", of(directory.path()));
    assert_eq!(of(Path::new("/dev/null")), "--trace \"/dev/null\": not a regular file");
    assert_eq!(of(Path::new("/nonexistent/t")), "--trace \"/nonexistent/t\": open: no such file or directory");
}

/// Torn lines, other programs' events, and events of commands whose begin is missing.
#[test]
fn a_file_that_is_not_ours_is_not_believed() {
    let lines = [
        "[",
        r#"{"ph":"E","ts":1,"args":{"span":"a"}},"#,
        r#"{"ph":"X","cat":"step","ts":1,"dur":1,"tid":2,"args":{"span":"a"}},"#,
        r#"{"ph":"B","cat":"command","ts":5,"tid":1,"args":{"span":"a","command":"x"}},"#,
        r#"{"ph":"B","cat":"unknown","ts":5,"tid":1,"args":{"span":"a"}},"#,
        r#"{"ph":"X","cat":"step","ts":6,"dur":1e308,"tid":3,"args":{"span":"a"}},"#,
        r#"{"ph":"X","cat":"step","ts":-1,"dur":1,"tid":2,"args":{"span":"a"}},"#,
        r#"{"ph":"X","cat":"step","ts":1,"dur":1e16,"tid":2,"args":{"span":"a"}},"#,
        r#"{"ph":"C","name":"counter"},"#,
        "{\"ph\":\"X\",\"ca",
        "null",
        "]",
    ];
    let recording = read(lines.join("\n").as_bytes()).unwrap();
    assert_eq!((recording.runs.len(), recording.foreign, recording.runs[0].spans.len()), (1, 9, 0));
    assert!(text::draw(&recording).contains("9 lines are not events of ocirt\n"));
}

/// Whatever the numbers are, it is drawn.
#[test]
fn odd_numbers_and_names_are_drawn() {
    let begin = r#"{"ph":"B","cat":"command","ts":5,"tid":1,"args":{"span":"a","command":"run","container":"<w&1>"}},"#;
    for (ts, dur) in [("0", "9e14"), ("9e14", "9e14"), ("0", "0"), ("5", "0"), ("5.5", "1e-300")] {
        let span = format!(
            r#"{{"ph":"X","cat":"step","ts":{ts},"dur":{dur},"tid":2,"name":"\u001b[2J\"<","args":{{"span":"a"}}}}"#
        );
        let recording = read(format!("[\n{begin}\n{span},\n").as_bytes()).unwrap();
        assert_eq!(recording.foreign, 0);
        let (text, svg) = (text::draw(&recording), svg::draw(&recording));
        assert!(text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
        assert!(svg.contains("&lt;w&amp;1&gt;") && !svg.contains("<w") && svg.ends_with("</svg>\n"), "{svg}");
        let stays_inside = |line: &&str| {
            let number = |name: &str| line.split_once(name)?.1.split_once('"')?.0.parse::<f64>().ok();
            number("x=\"").zip(number("width=\"")).is_none_or(|(x, width)| (0.0..=1280.0).contains(&(x + width)))
        };
        assert!(svg.lines().filter(|line| line.starts_with("<rect x")).all(|line| stays_inside(&line)), "{svg}");
    }
}

#[test]
fn of_many_commands_the_slowest_are_drawn_and_all_are_counted() {
    let event = |number: usize, end: usize| {
        let args = format!(r#""args":{{"span":"s{number}","command":"start","container":"web{number}"}}"#);
        format!(
            "{{\"ph\":\"B\",\"cat\":\"command\",\"ts\":{number},\"tid\":1,{args}}},\n\
             {{\"ph\":\"E\",\"ts\":{end},\"tid\":1,{args}}},\n"
        )
    };
    let text: String = (0..100).map(|number| event(number, number + 1000 * (number + 1))).collect();
    let text = text::draw(&read(text.as_bytes()).unwrap());
    assert!(text.starts_with("start web99: 100.000 ms\n") && !text.contains("web98"), "{text}");
    assert!(text.contains("    100    50.000 ms    90.000 ms   100.000 ms  start\n"), "{text}");
}

#[test]
fn nothing_is_written_when_nobody_asks() {
    let recorder = Recorder::off();
    recorder.begin_command("run", None);
    recorder.end_command(&Ok(0));
    assert!(!recorder.is_on() && recorder.environment().is_none());
}
