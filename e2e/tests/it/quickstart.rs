//! A spoken sentence in, its transcript out, over every protocol.

use e2e::clients::{get, get_text, openai, recognize, stream, text_of, websocket};
use e2e::{Resource, Service, quickstart, samples};

#[tokio::test]
async fn every_protocol_hears_what_was_said() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;

    let live = stream(&service.args(), &sample).await?;
    sample.check(&live.text)?;
    assert_eq!(live.words.len(), live.text.split_whitespace().count());
    let ends: Vec<f64> = live.words.iter().map(|word| seconds(word.end.as_ref())).collect();
    assert!(
        ends.is_sorted()
            && ends.last().is_some_and(|end| *end * 1000.0 <= sample.recording.duration_ms() as f64 + 500.0),
        "{ends:?}"
    );
    assert!(!live.chunks_ms.is_empty());

    let batch = recognize(&service.args(), sample.wav.clone()).await?;
    sample.check(&batch.text)?;
    assert_eq!(batch.words.len(), batch.text.split_whitespace().count());
    assert_eq!(batch.model, "demo-asr");

    let rest = get_text(&service.url, sample.wav.clone()).await?;
    assert_eq!((rest.status, rest.text()), (200, batch.text.as_str()), "REST and gRPC hear the same");
    let words = rest.body["words"].as_array().map(Vec::len);
    assert_eq!(words, Some(batch.words.len()));

    let openai = openai(&service.url, sample.wav.clone()).await?;
    assert_eq!((openai.status, openai.body["text"].as_str()), (200, Some(batch.text.as_str())));

    let finals = websocket(&service.url, &sample).await?;
    assert_eq!(text_of(&finals), live.text, "WebSocket and gRPC streams hear the same");
    Ok(())
}

#[tokio::test]
async fn every_sample_is_heard_and_the_command_line_tells() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let samples = samples()?;
    let paths: Vec<String> = samples.iter().map(|sample| sample.path.display().to_string()).collect();
    let mut args = vec!["transcribe", "--json", "--words"];
    args.extend(paths.iter().map(String::as_str));
    let output = service.smallest(&args)?.output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), samples.len());
    for (sample, line) in samples.iter().zip(&lines) {
        assert_eq!(line["file"].as_str(), sample.path.to_str());
        sample.check(line["text"].as_str().unwrap_or_default())?;
        assert!(line["words"].as_array().is_some_and(|words| !words.is_empty()));
    }

    let live = service.smallest(&["transcribe", "--stream", &paths[0]])?.output().await?;
    samples[0].check(String::from_utf8(live.stdout)?.trim())?;
    let live = service.smallest(&["transcribe", "--stream", "--json", &paths[0]])?.output().await?;
    let live: serde_json::Value = serde_json::from_slice(&live.stdout)?;
    samples[0].check(live["text"].as_str().unwrap_or_default())?;
    let spoken_ms = samples[0].recording.duration_ms() as f64;
    assert!(live["audioSeconds"].as_f64().is_some_and(|s| (s * 1e3 - spoken_ms).abs() < 2.0), "{live}");
    assert!(live["requestId"].as_str().is_some_and(|id| !id.is_empty()), "{live}");

    let missing = service.smallest(&["transcribe", "/no/such.wav"])?.output().await?;
    assert_eq!(missing.status.code(), Some(5));
    Ok(())
}

#[tokio::test]
async fn the_status_and_the_health_tell_that_all_is_well() -> anyhow::Result<()> {
    let service = Service::start(&Resource { replicas: 2, ..Resource::default() }).await?;
    let output = service.smallest(&["status", "--json"])?.output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let names: Vec<_> =
        status[0]["programs"].as_array().into_iter().flatten().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["redis", "license-proxy", "asr-0", "asr-1", "gateway"]);
    assert!(status[0]["notReady"].as_array().is_some_and(|all| all.iter().all(serde_json::Value::is_null)));
    for path in ["/api/v1/health", "/healthz", "/health", "/health?detailed=true", "/health/asr"] {
        assert_eq!(get(&format!("{}{path}", service.url)).await?.status, 200, "{path}");
    }
    Ok(())
}

fn seconds(at: Option<&prost_types::Duration>) -> f64 {
    cli::client::timeline::to_std(at).as_secs_f64()
}
