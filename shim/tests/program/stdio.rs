//! Where output goes: files and loggers. (FIFOs and terminals are the walks' matter.)

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::world::{World, until};

#[test]
fn a_file_gets_both_streams_behind_what_it_has() {
    let mut world = World::new("echo out; sleep 0.1; echo err >&2; exit 3");
    world.start().unwrap();
    let path = world.directory.join("logs/deep/container.log");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "before\n").unwrap();
    world.create(&format!("file://{}", path.display())).unwrap();
    assert_eq!(world.run(), 3);
    assert_eq!(world.read("logs/deep/container.log"), "before\nout\nerr\n");
}

#[test]
fn a_file_is_made_with_its_directories_and_survives_its_rotation() {
    let mut world = World::new("echo one; while [ ! -e \"$0.go\" ]; do sleep 0.02; done; echo two");
    world.start().unwrap();
    let path = world.directory.join("a/b/log");
    world.create(&format!("file://{}", path.display())).unwrap();
    world.init("Start").unwrap();
    until("the first line", || world.read("a/b/log") == "one\n");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    world.write("program.go", "");
    world.wait();
    world.init("Delete").unwrap();
    assert_eq!(world.read("a/b/log"), "two\n", "without a hole");
}

#[test]
fn what_is_no_file_is_refused() {
    let mut world = World::new("true");
    world.start().unwrap();
    let error = world.create("file:///dev/null").unwrap_err();
    assert_eq!(error.message, "OCI runtime create failed: /dev/null: no file");
    let error = world.create("telnet:///x").unwrap_err();
    assert!(error.message.ends_with("telnet is no scheme for this stream"), "{}", error.message);
}

#[test]
fn a_logger_reads_both_streams_to_their_ends() {
    let mut world = World::new("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done; echo err >&2");
    let script = "exec 5>&-; echo \"$@\" >arguments; env | sort >environment; cat <&4 >err & cat <&3 >out; wait; \
                  sleep 0.2; echo end >>out";
    let logger = world.program("logger", script);
    world.start().unwrap();
    world.create(&format!("binary://{logger}?b=1&a=x%20y")).unwrap();
    assert_eq!(world.run(), 0);
    let out = world.read("out");
    assert_eq!((out.lines().count(), out.lines().last()), (20001, Some("end")), "Delete waits for it");
    assert_eq!(world.read("err"), "err\n");
    assert_eq!(world.read("arguments"), "b 1 a x y\n");
    let environment = world.read("environment");
    let own: Vec<&str> =
        environment.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    assert!(own.contains(&"CONTAINER_ID=c") && own.contains(&"CONTAINER_NAMESPACE=n"), "{own:?}");
    assert!(own.iter().all(|line| !line.starts_with("PATH=")), "{own:?}");
    assert_eq!(world.left(), [""; 0]);
}

/// containerd #12490: of the first form, one that ends at once looks ready.
#[test]
fn a_logger_of_the_second_form_must_say_that_it_is_ready() {
    let mut world = World::new("echo out");
    world.start().unwrap();
    let dies = world.program("dies", "exit 1");
    let error = world.create(&format!("binary-v2://{dies}")).unwrap_err();
    let expected = format!("OCI runtime create failed: {dies}: it ended without saying that it is ready");
    assert_eq!(error.message, expected);
    assert!(!world.bundle().join("calls").exists() || !world.read("bundle/calls").contains("create"), "too early");
    let speaks = world.program("speaks", "printf x >&5; cat <&3 >out");
    world.create(&format!("binary-v2://{speaks}")).unwrap();
    world.run();
    assert_eq!(world.read("out"), "out\n");
}

#[test]
fn a_logger_that_is_never_ready_has_an_end_and_leaves_nothing() {
    let mut world = World::new("true");
    world.start().unwrap();
    let logger = world.program("logger", "exec sleep 1000.5");
    let begin = Instant::now();
    let error = world.create(&format!("binary://{logger}")).unwrap_err();
    assert_eq!(error.message, format!("OCI runtime create failed: {logger}: not ready within 10 seconds"));
    assert!((9..25).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    until("the logger is ended", || world.left().is_empty());
    assert!(!world.directory.join("state/n/c").exists());
}

#[test]
fn others_are_served_while_a_logger_is_waited_for() {
    let mut world = World::new("true");
    world.start().unwrap();
    let logger = world.program("logger", "sleep 2; exec 5>&-; cat <&3 >out");
    std::thread::scope(|scope| {
        let create = scope.spawn(|| world.create(&format!("binary://{logger}")));
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        world.shim_pid();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        create.join().unwrap().unwrap();
    });
    world.run();
}

/// aws/shim-loggers-for-containerd#253: the container then waited for ever, since the shim held the pipe.
#[test]
fn a_logger_that_dies_breaks_and_blocks_nothing_and_is_told_of_once() {
    let mut world = World::new("");
    world.start().unwrap();
    let logger = world.program("logger", "exec 5>&-; read line <&3; exit 9");
    world.write(
        "program",
        "echo first; sleep 0.5; i=0; while [ $i -lt 300 ]; do printf '%01000d' $i; i=$((i+1)); done; exit 4",
    );
    world.create(&format!("binary://{logger}")).unwrap();
    assert_eq!(world.run(), 4, "300,000 bytes, and no SIGPIPE");
    let log = world.log();
    assert_eq!(log.matches("has ended with status 9; output is lost").count(), 1, "{log}");
}

/// containerd #4509: TERM came while the logger was still reading.
#[test]
fn a_logger_is_ended_at_delete_and_killed_if_need_be() {
    let mut world = World::new("echo out");
    world.start().unwrap();
    let script =
        "trap 'echo term >>out; [ -e deaf ] || exit' TERM; exec 5>&-; cat <&3 >>out; while :; do sleep 0.1; done";
    let logger = world.program("logger", script);
    world.create(&format!("binary://{logger}")).unwrap();
    world.run();
    until("it hears SIGTERM", || world.read("out") == "out\nterm\n");
    until("it is gone", || world.left().is_empty());

    std::fs::write(world.directory.join("deaf"), "").unwrap();
    std::fs::remove_file(world.directory.join("out")).unwrap();
    world.create(&format!("binary://{logger}")).unwrap();
    world.run();
    let begin = Instant::now();
    until("it hears SIGTERM", || world.read("out") == "out\nterm\n");
    until("it is killed", || world.left().is_empty());
    assert!((8..25).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

/// Nobody else would end it.
#[test]
fn a_shim_does_not_end_before_the_logger_of_a_deleted_container() {
    let mut world = World::new("echo out");
    world.start().unwrap();
    let logger = world.program("logger", "trap '' TERM; echo $$ >pid; exec 5>&-; cat <&3 >out; exec sleep 1000.75");
    world.create(&format!("binary://{logger}")).unwrap();
    world.run();
    let shim = PathBuf::from(format!("/proc/{}", world.shim_pid()));
    let logger = PathBuf::from(format!("/proc/{}", world.read("pid").trim()));
    world.shutdown();
    until("no new container can come", || !Path::new(world.socket()).exists());
    assert!(logger.exists());
    let cmdline = |process: &Path| fs::read(process.join("cmdline")).unwrap_or_default();
    until("the logger is killed", || cmdline(&logger).is_empty());
    until("the shim has ended", || cmdline(&shim).is_empty());
}

#[test]
fn a_logger_that_does_not_exist_is_an_error() {
    let mut world = World::new("true");
    world.start().unwrap();
    let error = world.create("binary:///no/such/logger").unwrap_err();
    assert!(error.message.starts_with("OCI runtime create failed: /no/such/logger: No such file"), "{}", error.message);
    assert_eq!(world.left(), [""; 0]);
}
