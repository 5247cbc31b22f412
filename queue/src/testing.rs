//! A real `redis-server` for tests: started on a free port in a temporary folder, without persistence, and
//! stopped by its pid at the end. It knows nothing of the contract.

mod cluster;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

pub use self::cluster::RedisCluster;

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
    /// No certificate could be made for it.
    #[error("failed to make a certificate")]
    Certify(#[from] rcgen::Error),
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

/// A running server that speaks TLS, with a certificate for 127.0.0.1 of an authority of its own.
#[derive(Debug)]
pub struct TlsRedis {
    port: u16,
    authority: String,
    server: RedisServer,
    _folder: tempfile::TempDir,
}

impl TlsRedis {
    /// Makes authority and certificate, and starts a server with them.
    pub fn start() -> Result<Self, ServerError> {
        let folder = tempfile::tempdir().map_err(ServerError::Run)?;
        let (authority, certificate, key) = certify()?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map(|()| path.display().to_string()).map_err(ServerError::Run)
        };
        let (root, leaf, key) =
            (write("ca.crt", &authority)?, write("tls.crt", &certificate)?, write("tls.key", &key)?);
        let port = free_port().map_err(ServerError::Run)?;
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &leaf,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &root,
            "--tls-auth-clients",
            "no",
        ])?;
        Ok(Self { port, authority, server, _folder: folder })
    }

    /// Its address, `rediss://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// Its address by a name that its certificate does not have.
    pub fn url_of_another_name(&self) -> String {
        format!("rediss://localhost:{}", self.port)
    }

    /// The same server without TLS.
    pub fn plain(&self) -> &RedisServer {
        &self.server
    }

    /// The authority that signed its certificate, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// An authority, always of the same name, and a certificate of it with its key; all PEM.
pub fn certify() -> Result<(String, String, String), rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test-authority");
    let root = authority.self_signed(&authority_key)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
    Ok((root.pem(), leaf.pem(), key.serialize_pem()))
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
