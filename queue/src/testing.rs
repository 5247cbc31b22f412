//! A real `redis-server` for tests: started on a free port in a temporary folder, without persistence, and
//! stopped by its pid at the end. It knows nothing of the contract.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ports tried before giving up: another process may take a free port before the server does.
const PORTS_TRIED: usize = 20;

/// Why no server could be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program is missing or cannot run.
    #[error("failed to run redis-server: install it (apt-get install redis-server)")]
    Run(#[source] std::io::Error),
    /// It ended before it was ready.
    #[error("failed to start redis-server: it ended before it was ready; its log says:\n{log}")]
    Ended {
        /// What it printed.
        log: String,
    },
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Reads the log to its end, so that the server never blocks on a full pipe.
    log: JoinHandle<()>,
}

impl RedisServer {
    /// Starts a server and waits until it takes connections (some 20 ms).
    pub fn start() -> Result<Self, ServerError> {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, such as `--requirepass`, `secret`.
    pub fn start_with(arguments: &[&str]) -> Result<Self, ServerError> {
        let folder = tempfile::tempdir().map_err(ServerError::Run)?;
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port: 0, arguments, folder, running: None };
        let mut tried = 0;
        loop {
            server.port = free_port().map_err(ServerError::Run)?;
            tried += 1;
            match server.start_again() {
                Err(ServerError::Ended { log })
                    if tried < PORTS_TRIED && log.contains("Address already in use") => {}
                other => return other.map(|()| server),
            }
        }
    }

    /// Its address without user and password, such as `redis://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, unless it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|r| r.child.id())
    }

    /// Kills it (SIGKILL): what it knew is lost, connections break.
    pub fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // Both fail only when it is gone already.
        let _ = running.child.kill();
        let _ = running.child.wait();
        let _ = running.log.join();
    }

    /// Starts it again, empty, on the same port.
    pub fn start_again(&mut self) -> Result<(), ServerError> {
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ServerError::Run)?;
        let output = child.stdout.take().ok_or_else(|| ServerError::Ended { log: String::new() })?;
        let mut lines = BufReader::new(output).lines();
        let mut log = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if line.contains("Ready to accept connections") {
                let log = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                self.running = Some(Running { child, log });
                return Ok(());
            }
            log.push_str(&line);
            log.push('\n');
        }
        let _ = child.wait();
        Err(ServerError::Ended { log })
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It fails only when the server is gone, which the test then sees.
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
