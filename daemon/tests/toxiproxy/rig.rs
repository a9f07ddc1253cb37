//! A server of its own for each test, upstreams that echo or wait, and a plain HTTP client.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing here takes so long unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    pub api: SocketAddr,
}

/// Status, headers and body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.text))
    }

    /// The body of a success.
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test starts what it tests")]
pub fn squalld(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squalld"));
    command.arg("toxiproxy").args(arguments).env("SQUALL_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl Server {
    pub fn start() -> Server {
        Server::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Server {
        let mut child = squalld(arguments).args(["--port", "0"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        let api = ready["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Server { child, api }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    pub fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{method} {path} is not answered: {error}"));
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("`{answer}`"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), text: text.to_owned() }
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask_with(method, path, "", &body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &body)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &Value::Null)
    }

    /// A proxy `p` on a free port to `upstream`.
    pub fn proxy(&self, upstream: SocketAddr) -> SocketAddr {
        let body = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.to_string()});
        self.post("/proxies", body).good()["listen"].as_str().unwrap().parse().unwrap()
    }

    /// A toxic of `p`, named after its type.
    pub fn toxic(&self, kind: &str, stream: &str, attributes: Value) {
        let body = json!({"name": kind, "type": kind, "stream": stream, "attributes": attributes});
        self.post("/proxies/p/toxics", body).good();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `condition` comes true while a test waits.
pub fn until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

pub fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Sends back what it gets, until its client is done.
pub fn echo() -> SocketAddr {
    upstream(|mut stream| {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// Does `serve` with each connection, on a thread of its own.
pub fn upstream(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends `text` and reads as much back.
pub fn round_trip(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    back
}

/// Bytes that repeat at no power of two.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

/// All of `data` through an echoing connection, written and read at the same time.
pub fn echoed(stream: &TcpStream, data: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = stream;
            writer.write_all(data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        let mut reader = stream;
        reader.read_to_end(&mut back).unwrap();
        back
    })
}
