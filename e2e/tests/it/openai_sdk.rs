//! A program written for `OpenAI`'s service moves here by its address alone: the stock Python client gets every form
//! of the answer, and its own classes of errors.

use anyhow::Context as _;
use e2e::{Resource, Sample, Service, quickstart, repository};
use serde_json::Value;
use tokio::process::Command;

/// Python with the client, made when it is missing.
async fn python() -> anyhow::Result<String> {
    let output = Command::new(repository().join("tools/python-env.sh")).arg("clients").output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout)?;
    Ok(told.lines().last().context("tools/python-env.sh names a python")?.to_owned())
}

/// What the client gets.
async fn ask(service: &Service, key: &str, sample: &Sample) -> anyhow::Result<Value> {
    let script = repository().join("e2e/clients/openai_sdk.py");
    let mut client = Command::new(python().await?);
    client.arg(script).arg(format!("{}/v1", service.url)).arg(key).arg(&sample.path);
    let output = client.env("NO_PROXY", "*").output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The text of subtitles: neither numbers nor times.
fn spoken(subtitles: &str) -> String {
    let lines = subtitles.lines().filter(|line| !line.contains("-->") && line.parse::<u32>().is_err());
    lines.filter(|line| *line != "WEBVTT").flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_default()
}

#[tokio::test]
async fn the_stock_python_client_gets_every_form_and_its_own_errors() -> anyhow::Result<()> {
    let limits =
        Resource { max_body_bytes: 1_000_000, api_keys: Some("sk-test".into()), ..Resource::default() };
    let service = Service::start(&limits).await?;
    let sample = quickstart()?;
    let got = ask(&service, "sk-test", &sample).await?;

    let said = text(&got, "json");
    sample.check(said)?;
    assert_eq!(got["models"], serde_json::json!(["demo-asr"]));
    assert_eq!((text(&got, "alias"), text(&got, "text").trim()), (said, said));
    assert_eq!((spoken(text(&got, "srt")), spoken(text(&got, "vtt"))), (said.to_owned(), said.to_owned()));
    assert!(
        text(&got, "srt").starts_with("1\n00:00:00,") && text(&got, "vtt").starts_with("WEBVTT\n"),
        "{got}"
    );

    let verbose = &got["verbose"];
    assert_eq!((text(verbose, "text"), text(verbose, "language")), (said, "en"));
    let words: Vec<&str> =
        verbose["words"].as_array().into_iter().flatten().map(|w| text(w, "word")).collect();
    assert_eq!(words, said.split_whitespace().collect::<Vec<_>>());
    assert!(verbose["segments"].as_array().is_some_and(|all| !all.is_empty()), "{verbose}");

    assert_eq!(got["done"].as_array().map(Vec::len), Some(1));
    sample.check(text(&got, "deltas"))?;
    assert_eq!(got["done"][0].as_str().map(str::trim), Some(text(&got, "deltas").trim()));

    let cases = [
        ("no_audio", "APIStatusError", 415, "invalid_request_error"),
        ("no_model", "NotFoundError", 404, "invalid_request_error"),
        ("no_format", "BadRequestError", 400, "invalid_request_error"),
        ("too_large", "APIStatusError", 413, "invalid_request_error"),
        ("wrong_key", "AuthenticationError", 401, "authentication_error"),
    ];
    for (name, class, status, kind) in cases {
        let error = &got[name];
        let found = (text(error, "class"), error["status"].as_u64(), text(error, "type"));
        assert_eq!(found, (class, Some(status), kind), "{name}: {error}");
        assert!(error["code"].is_string() && !text(error, "message").is_empty(), "{name}: {error}");
    }
    assert_eq!(text(&got["no_format"], "param"), "response_format");
    Ok(())
}
