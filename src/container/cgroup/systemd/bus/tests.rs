//! The client against a server that the test plays, which misbehaves in the ways that a bus can.

use std::os::unix::net::UnixListener;

use super::*;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::systemd::limits::NewLimits;
use crate::container::cgroup::systemd::unit::{Unit, with_connection};
use crate::error::Faults;

#[test]
fn addresses_are_read_as_the_specification_has_them() {
    let read = |text| addresses(text).into_iter().map(|address| address.to_string()).collect::<Vec<_>>();
    assert_eq!(read("unix:path=/run/user/1000/bus"), ["/run/user/1000/bus"]);
    assert_eq!(read("unix:path=/a%20b%2fc,guid=0123"), ["/a b/c"]);
    assert_eq!(read("tcp:host=h;unix:abstract=/tmp/x,guid=1;unix:path=/b"), ["@/tmp/x", "/b"]);
    assert!(read("unixexec:path=x").is_empty() && read("").is_empty());
}

/// A server's end that has read what a client says before its first message.
fn welcome(mut stream: UnixStream, answer: &str) -> UnixStream {
    let mut greeting = [0; 29];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    stream.write_all(answer.as_bytes()).unwrap();
    stream
}

const WELCOME: &str = "DATA\r\nOK 0123456789abcdef\r\n";

/// An answer to call `serial`: of kind 2, a reply, or 3, an error of that name; with a value in it.
fn answer(kind: u8, serial: u8, error: &str, value: Value) -> Vec<u8> {
    let method = Method { destination: "x", path: "/x", interface: "x.x", name: error };
    let mut bytes = wire::call(&method, 1, &[value]);
    bytes[1] = kind;
    // The member's field becomes the error's name, that of the destination the serial number that is answered.
    let member = bytes.windows(4).position(|field| field == [3, 1, b's', 0]).unwrap();
    bytes[member] = 4;
    let destination = bytes.windows(4).position(|field| field == [6, 1, b's', 0]).unwrap();
    bytes.splice(destination..destination + 16, [5, 1, b'u', 0, serial, 0, 0, 0, 200, 1, b'u', 0, 0, 0, 0, 0]);
    bytes
}

/// Runs `client` against a server that treats its connections in this order.
fn with_server<T>(serve: &[&(dyn Fn(UnixStream) + Sync)], client: impl FnOnce(&Bus) -> T) -> T {
    let directory = crate::sys::scratch::Directory::new();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| serve.iter().for_each(|serve| serve(listener.accept().unwrap().0)));
        client(&Bus::User(vec![BusAddress::direct(path.clone())]))
    })
}

fn read_call(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while BusMessage::parse(&bytes).unwrap().is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    bytes
}

/// Reads a call and answers it with `value`; returns the call.
fn reply(stream: &mut UnixStream, serial: u8, value: Value) -> Vec<u8> {
    let call = read_call(stream);
    stream.write_all(&answer(2, serial, "x", value)).unwrap();
    call
}

fn text(failed: CallFailed) -> String {
    format!("{:#}", anyhow::Error::from(failed))
}

#[test]
fn a_server_that_refuses_us_is_an_error() {
    let error = with_server(&[&|stream| drop(welcome(stream, "REJECTED EXTERNAL\r\n"))], |bus| {
        text(Connection::open(bus).unwrap_err())
    });
    assert!(error.ends_with("authentication: REJECTED EXTERNAL"), "{error}");
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    let breaks = |stream| {
        let mut stream = welcome(stream, WELCOME);
        read_call(&mut stream);
    };
    let refuses = |stream| {
        let mut stream = welcome(stream, WELCOME);
        read_call(&mut stream);
        stream.write_all(&answer(3, 1, "org.freedesktop.systemd1.NoSuchUnit", Value::text("not here"))).unwrap();
    };
    let call = |connection: &mut Connection| connection.manager("GetUnit", &[Value::text("x")]).map(drop);
    let failed = with_server(&[&breaks, &refuses], |bus| with_connection(bus, call).unwrap_err());
    assert!(failed.is(".NoSuchUnit"), "{failed:?}");
    assert_eq!(text(failed), "systemd: not here");
    let failed =
        with_server(&[&breaks as &(dyn Fn(UnixStream) + Sync); 7], |bus| text(with_connection(bus, call).unwrap_err()));
    assert_eq!(failed, "systemd closed the connection");
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    let serve = |stream| {
        let mut stream = welcome(stream, WELCOME);
        read_call(&mut stream);
        stream.write_all(&answer(3, 1, "org.freedesktop.systemd1.NoSuchUnit", Value::text("not here"))).unwrap();
    };
    with_server(&[&serve], |bus| Unit { name: "x.scope".into(), bus: bus.clone() }.stop()).unwrap();
}

#[test]
fn a_job_that_does_not_end_is_not_waited_for() {
    let serve = |stream| {
        let mut stream = welcome(stream, WELCOME);
        // Until the client goes.
        let _ = stream.read(&mut [0]);
    };
    let result = with_server(&[&serve], |bus| {
        let mut connection = Connection::open(bus).unwrap();
        connection.job_result("/job/1", Instant::now() + Duration::from_millis(50)).unwrap()
    });
    assert_eq!(result, None);
}

#[test]
fn garbage_is_an_error() {
    let serve = |stream| {
        let mut stream = welcome(stream, &format!("{WELCOME}{}", "B".repeat(64)));
        // Until the client goes: it reads the garbage, whoever is faster.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    };
    let error = with_server(&[&serve], |bus| text(Connection::open(bus).unwrap().manager("GetUnit", &[]).unwrap_err()));
    assert_eq!(error, "D-Bus message is not little endian");
}

/// systemd takes new limits, and the connection breaks before it has written them: the old ones are set back.
#[test]
fn limits_that_may_have_come_through_are_set_back() {
    let resources = serde_json::from_value(serde_json::json!({ "pids": { "limit": 20 } })).unwrap();
    let writes = crate::container::cgroup::wanted::v2::compile(&resources, &mut Faults::first()).unwrap().list;
    let new = NewLimits::of(&writes, None, Layout::V2);
    let tells = |stream| {
        let mut stream = welcome(stream, WELCOME);
        reply(&mut stream, 1, Value::ObjectPath("/unit".into()));
        reply(&mut stream, 2, Value::Variant(Box::new(Value::Uint64(0x7777))));
    };
    let takes = |stream, limit: u64| {
        let mut stream = welcome(stream, WELCOME);
        let call = reply(&mut stream, 1, Value::text(""));
        assert!(call.windows(8).any(|bytes| bytes == b"TasksMax"));
        assert!(call.windows(8).any(|bytes| bytes == limit.to_le_bytes()), "{limit}");
        stream
    };
    let breaks = |stream| drop(takes(stream, 20));
    let obeys = |stream| drop(reply(&mut takes(stream, 0x7777), 2, Value::Variant(Box::new(Value::text("257")))));
    let mut serve: Vec<&(dyn Fn(UnixStream) + Sync)> = vec![&tells];
    serve.extend([&breaks as &(dyn Fn(UnixStream) + Sync); 7]);
    serve.push(&obeys);
    with_server(&serve, |bus| {
        let unit = Unit { name: "x.scope".into(), bus: bus.clone() };
        let old = unit.limits(&new).unwrap().unwrap();
        unit.set_limits(&new).unwrap_err();
        old.restore();
    });
}
