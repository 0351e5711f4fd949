//! `ps`: the container's processes, all of them and no others, in each status.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    the_list_has_every_process_and_no_other,
    the_list_works_in_every_status,
    the_table_is_that_of_ps,
    what_ps_refuses_is_an_error,
    processes_that_outlive_init_are_listed,
];

fn pids(container: &Container) -> Vec<u64> {
    let list = call(["ps", "--format", "json", container.id()]).ok().json();
    list.as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

fn sleeper() -> Container {
    let container = Bundle::new().create(probe!(sleep 60));
    container.start().ok();
    container
}

fn the_list_has_every_process_and_no_other() {
    let container = Bundle::new().create(probe!(spawn 60; spawn 60; sleep 60));
    let other = sleeper();
    container.start().ok();
    container.answers(2);
    let found = pids(&container);
    assert_eq!(found.len(), 3, "{found:?}");
    let all: Vec<u64> = host::descendants(std::process::id()).into_iter().map(u64::from).collect();
    assert!(found.iter().all(|pid| all.contains(pid)), "{found:?} {all:?}");
    assert_eq!(pids(&other), [u64::from(other.pid())]);
}

fn the_list_works_in_every_status() {
    let container = Bundle::new().create(probe!(sleep 60));
    let init = u64::from(container.pid());
    assert_eq!(pids(&container), [init], "created");
    container.start().ok();
    assert_eq!(pids(&container), [init], "running");
    call(["pause", container.id()]).ok();
    assert_eq!(pids(&container), [init], "paused");
    let table = call(["ps", container.id()]).ok().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    call(["resume", container.id()]).ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    eventually("no process", || pids(&container).is_empty());
    assert_eq!(call(["ps", "-f", "json", container.id()]).ok().stdout, "null\n");
    let table = call(["ps", container.id()]).ok().stdout;
    assert!(table.lines().count() == 1 && table.contains("PID"), "{table}");
    container.delete().ok();
    call(["ps", container.id()]).fails("does not exist");
}

fn the_table_is_that_of_ps() {
    let container = sleeper();
    let init = container.pid().to_string();
    for words in [vec![], vec!["-ef"], vec!["aux"], vec!["-o", "pid,comm,args"], vec!["-eo", "user,pid"]] {
        let mut all = vec!["ps", container.id()];
        all.extend(&words);
        let table = Call::new(all).run().ok().stdout;
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        let column = lines[0].iter().position(|title| *title == "PID").expect("a column PID");
        assert_eq!(lines.len(), if words == ["-o", "pid,comm,args"] { lines.len() } else { 2 }, "{table}");
        assert!(lines[1..].iter().all(|line| line[column] == init), "{table}");
    }
}

fn what_ps_refuses_is_an_error() {
    let container = sleeper();
    for (words, message) in [
        (vec!["--format", "xml", container.id()], "invalid format option"),
        (vec![container.id(), "-eo", "comm"], "couldn't find PID field in ps output"),
        (vec![container.id(), "--nosuchflag"], "exit status"),
        (vec!["nosuch"], "does not exist"),
    ] {
        let mut all = vec!["ps"];
        all.extend(words);
        let output = Call::new(all).run();
        let text = output.stderr.replace("exit status: ", "exit status ");
        assert!(output.status == 1 && text.contains(message), "{output:?}");
        assert_eq!(output.stdout, "");
    }
}

fn processes_that_outlive_init_are_listed() {
    let bundle = Bundle::new().without_namespace("pid");
    let container = bundle.create(probe!(spawn 60; print "left"));
    container.start().ok();
    let child = container.answers(2)[0].as_u64().expect("a pid");
    container.wait_for("stopped");
    assert_eq!(json!(pids(&container)), json!([child]));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}
