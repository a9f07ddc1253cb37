//! Two hosts that talk: what the network tests measure on.

use std::process::Stdio;
use std::time::Duration;

use crate::lab::{Host, Lab, Running, programs, wait_until};
use crate::talk::Measured;

/// Runs one of [`crate::talk`]'s clients in a host to its end.
pub fn ask(host: &Host, verb: &str, to: &str, more: &[&str]) -> Measured {
    let helper = programs::program("squall-lab");
    let answer = host.run(helper.to_str().unwrap(), &[&[verb, "--to", to], more].concat());
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{verb}: {}", answer.stderr))
}

/// Two hosts; the second answers on TCP and UDP, port 7.
pub struct Pair {
    pub lab: Lab,
    _servers: Vec<Running>,
}

impl Pair {
    pub fn start() -> Pair {
        let lab = Lab::new().hosts(&["a", "b"]).start();
        let b = lab.host("b");
        let servers = ["tcp-echo", "udp-echo"].map(|what| b.start(b.talk(what).args(["--at", "[::]:7"]))).into();
        let pair = Pair { lab, _servers: servers };
        assert!(wait_until(Duration::from_secs(5), || pair.connects()
            && ask(pair.a(), "udp-ping", "10.77.0.2:7", &[]).lost() == 0));
        // Duplicate address detection of the link-local address goes on for a second, and shows in snapshots.
        let settled = |host: &Host| !host.run("ip", &["-6", "addr", "show", "tentative"]).stdout.contains("inet6");
        assert!(wait_until(Duration::from_secs(4), || settled(pair.a()) && settled(pair.b())));
        pair
    }

    pub fn a(&self) -> &Host {
        self.lab.host("a")
    }

    pub fn b(&self) -> &Host {
        self.lab.host("b")
    }

    /// Why a TCP connection could not be made; None: it was.
    pub fn connect(&self, to: &str) -> Option<String> {
        self.connect_within("200", to)
    }

    pub fn connect_within(&self, milliseconds: &str, to: &str) -> Option<String> {
        ask(self.a(), "tcp-connect", to, &["--timeout", milliseconds]).error
    }

    pub fn connects(&self) -> bool {
        self.connect("10.77.0.2:7").is_none()
    }

    /// A connection that is open and exchanges a line every 10 ms.
    pub fn session(&self, to: &str) -> Running {
        let mut command = self.a().talk("ssh-client");
        command.args(["--to", to, "--every", "10", "--timeout", "400"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = self.a().start(&mut command);
        let stdout = session.child().stdout.as_mut().unwrap();
        let mut line = [0_u8; 10];
        std::io::Read::read_exact(stdout, &mut line).unwrap();
        assert_eq!(&line, b"connected\n");
        std::thread::sleep(Duration::from_millis(30));
        session
    }
}

/// Ends a session and says what it saw.
pub fn seen(session: Running) -> Measured {
    let output = session.output();
    serde_json::from_str(output.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("no result: {output}"))
}

/// Runs this on a thread of its own in a host's network namespace: for the daemon's own functions, which act where they run.
pub fn in_network_of<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", host.init_pid())).expect("the host runs");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter it");
            work()
        });
        thread.join().expect("the work does not panic")
    })
}
