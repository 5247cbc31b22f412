//! Asks a program whether it is ready.
//!
//! Comes in: a [`Probe`]. Goes out: ready, or why not in the program's own words (bounded).

use operator_plan::local::Probe;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A probe that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is kept of a reason.
const LONGEST_REASON: usize = 500;

/// Sends probes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    http: reqwest::Client,
}

impl Prober {
    /// One client for all probes.
    pub fn new() -> Result<Self, reqwest::Error> {
        // No proxy of the environment may answer in the place of a program on this machine.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { http })
    }

    /// `Ok` when the program is ready, else why not.
    pub async fn check(&self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Redis { port } => self.ping(*port).await,
            Probe::Http { port, path } => self.get(*port, path).await.map(|_| ()),
        }
    }

    /// `Ok` when a Redis answers, else why not.
    pub async fn ping(&self, port: u16) -> Result<(), String> {
        tokio::time::timeout(PATIENCE, ping_redis(port)).await.map_err(|_| "no answer to PING".to_owned())?
    }

    /// The body of a 2xx answer, else why there is none.
    pub async fn get(&self, port: u16, path: &str) -> Result<String, String> {
        let url = format!("http://{}:{port}{path}", Ipv4Addr::LOCALHOST);
        let response = self.http.get(url).send().await.map_err(|error| in_short(&error))?;
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(reason(status.as_u16(), &body)) }
    }
}

async fn ping_redis(port: u16) -> Result<(), String> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|_| "nothing listens yet".to_owned())?;
    let mut answer = [0_u8; 64];
    let exchange = async {
        socket.write_all(b"PING\r\n").await?;
        socket.read(&mut answer).await
    };
    let length = exchange.await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") {
        Ok(())
    } else {
        Err(answer.trim().to_owned())
    }
}

fn in_short(error: &reqwest::Error) -> String {
    if error.is_connect() {
        "nothing listens yet".to_owned()
    } else if error.is_timeout() {
        "no answer".to_owned()
    } else {
        error.to_string()
    }
}

/// The `reason` or `message` of a JSON body, else the beginning of the body, else the status.
fn reason(status: u16, body: &str) -> String {
    let said = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|json| {
        let text = |key: &str| json.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        match (text("reason"), text("message")) {
            (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
            (reason, message) => reason.or(message),
        }
    });
    let said = said.unwrap_or_else(|| body.trim().to_owned());
    if said.is_empty() { format!("status {status}") } else { said.chars().take(LONGEST_REASON).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_the_program_says() {
        assert_eq!(reason(503, r#"{"status":"unhealthy","reason":"loading"}"#), "loading");
        assert_eq!(reason(503, r#"{"reason":"LoadModel","message":"no file"}"#), "LoadModel: no file");
        assert_eq!(reason(503, "warming up\n"), "warming up");
        assert_eq!(reason(503, ""), "status 503");
        assert_eq!(reason(500, &"x".repeat(10_000)).len(), LONGEST_REASON);
    }

    #[tokio::test]
    async fn nobody_there_is_said_in_plain_words() {
        let port = crate::up::ports::find_free(1).unwrap()[0];
        let prober = Prober::new().unwrap();
        let http = prober.check(&Probe::Http { port, path: "/" }).await;
        assert_eq!(http, Err("nothing listens yet".to_owned()));
        assert_eq!(prober.check(&Probe::Redis { port }).await, Err("nothing listens yet".to_owned()));
    }
}
