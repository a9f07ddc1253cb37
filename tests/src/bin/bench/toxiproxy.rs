//! `squalld toxiproxy`: throughput with no toxic and at 100 ms latency, and how exact that latency is; the original beside it in the same
//! run, if a `toxiproxy-server` is in PATH or `TOXIPROXY_SERVER` names one. Over the loopback interface, everything on the same processors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use squall_tests::lab::{programs, wait_until};

use super::table::Table;

const LATENCY_MS: u64 = 100;
/// Before a stream counts, and how long it does.
const WARM_UP: Duration = Duration::from_millis(700);
const STREAM: Duration = Duration::from_secs(2);
const ROUND_TRIPS: usize = 200;
const BLOCK: usize = 256 * 1024;

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let direct = TcpListener::bind("127.0.0.1:0")?;
    let address = direct.local_addr()?;
    table.value("TCP throughput over loopback, no proxy", gbit(throughput(&direct, address)?), "");
    peer(table, "squalld toxiproxy", Server::squalld()?, Some("p99: 1 ms"))?;
    match original() {
        Some(path) => peer(table, "toxiproxy-server", Server::original(&path)?, None)?,
        None => eprintln!("no toxiproxy-server in PATH or TOXIPROXY_SERVER: the original is not measured"),
    }
    Ok(())
}

fn peer(table: &mut Table, name: &str, server: Server, aim: Option<&str>) -> anyhow::Result<()> {
    let sink = TcpListener::bind("127.0.0.1:0")?;
    let through = server.proxy("sink", sink.local_addr()?)?;
    table.value(&format!("{name}: TCP throughput, no toxic"), gbit(throughput(&sink, through)?), "");
    let echo = TcpListener::bind("127.0.0.1:0")?;
    let echoing = server.proxy("echo", echo.local_addr()?)?;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = echo.accept() {
            let _ = stream.set_nodelay(true);
            let mut byte = [0];
            while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
        }
    });
    let bare = round_trips(echoing)?;
    table.times(&format!("{name}: round trip of a byte, no toxic"), &bare, "");
    for proxy in ["sink", "echo"] {
        let toxic = json!({"type": "latency", "stream": "upstream", "attributes": {"latency": LATENCY_MS}});
        server.ask("POST", &format!("/proxies/{proxy}/toxics"), &toxic.to_string())?;
    }
    let median = super::table::percentile(&bare, 0.5);
    let errors: Vec<f64> = round_trips(echoing)?.iter().map(|ms| (ms - median - LATENCY_MS as f64).abs()).collect();
    table.times(&format!("{name} +{LATENCY_MS} ms: error of the delay"), &errors, aim.unwrap_or_default());
    let rate = throughput(&sink, through)?;
    table.value(&format!("{name} +{LATENCY_MS} ms: TCP throughput"), gbit(rate), "");
    Ok(())
}

fn gbit(bits: f64) -> String {
    if bits < 1e8 { format!("{:.2} Mbit/s", bits / 1e6) } else { format!("{:.2} Gbit/s", bits / 1e9) }
}

/// Bits per second that arrive at `sink` of one stream to `through`.
fn throughput(sink: &TcpListener, through: SocketAddr) -> anyhow::Result<f64> {
    let (received, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut sender = TcpStream::connect(through)?;
    let (mut receiver, _) = sink.accept()?;
    let reading = std::thread::spawn({
        let received = received.clone();
        move || {
            let mut block = vec![0; BLOCK];
            while let Ok(read @ 1..) = receiver.read(&mut block) {
                received.fetch_add(read as u64, Ordering::Relaxed);
            }
        }
    });
    let writing = std::thread::spawn({
        let done = done.clone();
        move || {
            sender.set_write_timeout(Some(Duration::from_secs(5)))?;
            let block = vec![7; BLOCK];
            while !done.load(Ordering::Relaxed) {
                sender.write_all(&block)?;
            }
            std::io::Result::Ok(())
        }
    });
    std::thread::sleep(WARM_UP);
    let (before, start) = (received.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(STREAM);
    let bytes = received.load(Ordering::Relaxed) - before;
    let rate = bytes as f64 * 8.0 / start.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    writing.join().ok().context("the sender panicked")??;
    reading.join().ok().context("the receiver panicked")?;
    Ok(rate)
}

/// In milliseconds, each of one byte, one after the other.
fn round_trips(at: SocketAddr) -> anyhow::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut once = || -> anyhow::Result<f64> {
        let start = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    // The first one waits for the connection to the upstream.
    once()?;
    (0..ROUND_TRIPS).map(|_| once()).collect()
}

fn original() -> Option<PathBuf> {
    let named = std::env::var_os("TOXIPROXY_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|at| at.join("toxiproxy-server")).find(|file| file.is_file()))
}

struct Server {
    child: Child,
    api: SocketAddr,
}

impl Server {
    fn squalld() -> anyhow::Result<Server> {
        let mut command = Command::new(programs::program("squalld"));
        command.args(["toxiproxy", "--port", "0"]).env("SQUALL_LOG", "warn").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        let api = ready["url"].as_str().and_then(|url| url.strip_prefix("http://")).context("no url")?.parse()?;
        Ok(Server { child, api })
    }

    fn original(path: &std::path::Path) -> anyhow::Result<Server> {
        // It takes no port 0.
        let api = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(path);
        command.args(["-host", "127.0.0.1", "-port", &api.port().to_string()]).env("LOG_LEVEL", "error");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Server { child, api };
        ensure!(wait_until(Duration::from_secs(5), || TcpStream::connect(api).is_ok()), "{path:?} does not serve");
        Ok(server)
    }

    fn proxy(&self, name: &str, upstream: SocketAddr) -> anyhow::Result<SocketAddr> {
        let body = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream.to_string()});
        let answer = self.ask("POST", "/proxies", &body.to_string())?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["listen"].as_str().context("no listen")?.parse()?)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.api)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, text) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        ensure!(head.split(' ').nth(1).is_some_and(|code| code.starts_with('2')), "{method} {path}: {answer}");
        Ok(text.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
