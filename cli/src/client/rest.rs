//! Recordings over REST: `POST /api/v1/lightning/get_text`, the audio as the body.
//!
//! REST rather than gRPC, because a body can be streamed from a file of any size.
//! Comes in: a body and options. Goes out: a [`Transcript`].

use super::ClientError;
use crate::args::Service;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tonic::Code;

/// A recognition of two hours of audio on a small machine still ends within this.
const PATIENCE: Duration = Duration::from_hours(1);

/// One word with its times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedWord {
    /// The word.
    pub word: String,
    /// Seconds from the recording's start.
    pub start: f64,
    /// Seconds from the recording's start.
    pub end: f64,
    /// 0 to 1.
    #[serde(default)]
    pub confidence: f64,
}

/// What was said in one recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transcript {
    /// The text.
    pub text: String,
    /// Its words, where asked for.
    pub words: Vec<TimedWord>,
    /// How long the recording plays, seconds.
    pub audio_seconds: Option<f64>,
    /// The service's name of the request, for its logs.
    pub request_id: Option<String>,
}

/// What is wanted of a recording.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `en` …
    pub language: Option<String>,
    /// Model name.
    pub model: Option<String>,
}

/// Sends recordings; cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    http: reqwest::Client,
    service: Service,
}

#[derive(Deserialize)]
struct Answer {
    transcription: String,
    #[serde(default)]
    words: Vec<TimedWord>,
    metadata: Option<Metadata>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    duration: Option<f64>,
}

impl Rest {
    /// A client of one service.
    pub fn new(service: &Service) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(super::CONNECT_PATIENCE)
            .timeout(PATIENCE)
            .build()
            .map_err(|error| ClientError::UseSettings { what: "the network", detail: error.to_string() })?;
        Ok(Self { http, service: service.clone() })
    }

    /// Sends one recording and waits for its text.
    pub async fn transcribe(&self, body: reqwest::Body, wishes: &Wishes) -> Result<Transcript, ClientError> {
        let url = format!("{}/api/v1/lightning/get_text", self.service.url.trim_end_matches('/'));
        let mut query = vec![("word_timestamps", "true")];
        query.extend(wishes.language.as_deref().map(|language| ("language", language)));
        query.extend(wishes.model.as_deref().map(|model| ("model", model)));
        let url = reqwest::Url::parse_with_params(&url, query)
            .map_err(|error| ClientError::UseSettings { what: "the address", detail: error.to_string() })?;
        let mut request = self.http.post(url).header("content-type", "application/octet-stream").body(body);
        if let Some(key) = &self.service.api_key {
            request = request.bearer_auth(key);
        }
        let reach = |source: reqwest::Error| ClientError::Reach {
            url: self.service.url.clone(),
            source: source.into(),
        };
        let response = request.send().await.map_err(reach)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(reach)?;
        if status != 200 {
            return Err(refusal(status, &text));
        }
        read_answer(&text)
    }
}

fn read_answer(text: &str) -> Result<Transcript, ClientError> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| ClientError::Recognize {
        code: Code::Internal,
        reason: "ReadAnswer".into(),
        message: format!("the answer is not what this version expects ({error})"),
    })?;
    Ok(Transcript {
        text: answer.transcription,
        words: answer.words,
        audio_seconds: answer.metadata.and_then(|metadata| metadata.duration),
        request_id: answer.request_id,
    })
}

/// The service's refusal in the terms of gRPC, so that both ways fail alike.
fn refusal(status: u16, body: &str) -> ClientError {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let code = match status {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        400..500 => Code::InvalidArgument,
        _ => Code::Internal,
    };
    ClientError::Recognize {
        code,
        reason: text("reason").or_else(|| text("error_code")).unwrap_or_else(|| format!("status {status}")),
        message: text("message")
            .or_else(|| text("error"))
            .unwrap_or_else(|| body.chars().take(300).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::exit;

    #[test]
    fn an_answer_is_read() {
        let text = r#"{"status":"success","transcription":"hello","request_id":"r1","metadata":{"duration":1.5},
            "words":[{"word":"hello","start":0.1,"end":0.5,"confidence":0.9}],"utterances":[]}"#;
        let transcript = read_answer(text).unwrap();
        assert_eq!((transcript.text.as_str(), transcript.audio_seconds), ("hello", Some(1.5)));
        assert_eq!(transcript.words[0].word, "hello");
        assert_eq!(read_answer("<html>").unwrap_err().reason(), "ReadAnswer");
    }

    #[test]
    fn refusals_keep_the_services_words_and_exit_codes() {
        let check = |status, code| assert_eq!(refusal(status, "{}").exit_code(), code, "{status}");
        check(401, exit::REFUSED);
        check(403, exit::REFUSED);
        check(429, exit::REFUSED);
        check(503, exit::REFUSED);
        check(400, exit::BAD_INPUT);
        check(413, exit::BAD_INPUT);
        check(415, exit::BAD_INPUT);
        check(500, exit::FAILED);
        let full = refusal(429, r#"{"error":"too many requests","reason":"QueueFull"}"#);
        assert_eq!(full.to_string(), "failed to recognize speech: too many requests (QueueFull)");
    }
}
