//! What the experiments ask: a server that answers a few paths.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Serves until this process ends.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// A port at which nobody listens.
pub fn closed() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

fn answer(mut stream: TcpStream) -> Option<()> {
    let mut request = Vec::new();
    let mut block = [0; 4096];
    let (head, body) = loop {
        let read = stream.read(&mut block).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&block[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_lowercase();
        let wanted = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        if body.len() >= wanted.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1)?;
    let (status, kind, text) = match path {
        "/ok" => ("200 OK", "text/plain", "fine".to_owned()),
        "/json" => ("200 OK", "application/json", r#"{"items": [{"id": 1}, {"id": 2}]}"#.to_owned()),
        "/echo" => ("200 OK", "text/plain", body),
        "/moved" => ("302 Found\r\nLocation: /ok", "text/plain", String::new()),
        "/silent" => {
            std::thread::sleep(std::time::Duration::from_secs(30));
            return None;
        }
        _ => ("500 No", "text/plain", "no".to_owned()),
    };
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{text}").as_bytes()).ok()
}
