//! The output of an exec, over the WebSocket that the CRI answers with: subprotocol v4.channel.k8s.io, in which the
//! first byte of a message is its channel.

use std::io::Write;
use std::net::TcpStream;

use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;

use crate::error::Error;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The end, as a JSON `Status`.
const STATUS: u8 = 3;

/// Prints what comes, and returns 0, or 1 for a command that failed.
pub fn follow(url: &str) -> Result<u8, Error> {
    let mut request = url.replacen("http", "ws", 1).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("v4.channel.k8s.io"));
    let host = request.uri().authority().ok_or("an address without a host")?.to_string();
    let (mut socket, _) = tungstenite::client(request, TcpStream::connect(host)?)?;
    loop {
        match socket.read() {
            Ok(Message::Binary(message)) => match message.split_first() {
                Some((&(STDOUT | STDERR), text)) => std::io::stdout().write_all(text)?,
                Some((&STATUS, text)) => return Ok(u8::from(!String::from_utf8_lossy(text).contains("Success"))),
                _ => {}
            },
            Ok(Message::Close(_)) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
