//! `smallest up --demo`, the heart of `make run`: what it shows of a spoken sentence, and that the ways it names work.

use e2e::{Resource, Service, quickstart};

#[tokio::test]
async fn the_demo_shows_words_times_and_latencies_and_names_ways_that_work() -> anyhow::Result<()> {
    let sample = quickstart()?;
    let file = sample.path.display().to_string();
    let flags = ["--demo", "--demo-audio", &file];
    let mut service = Service::spawn_with(&Resource::default(), &[], &flags)?;
    service.logged("Ctrl-C stops it").await?;
    service.ready().await?;
    let log = service.log_text();
    let shown = |label: &str| {
        let lines = log.lines().filter_map(|line| line.trim_start().strip_prefix(label));
        lines.map(str::trim).collect::<Vec<_>>()
    };

    sample.check(shown("final").first().copied().unwrap_or_default())?;
    let partials = shown("partial");
    // Words come while they are spoken: no partial is the whole sentence at once.
    assert!(partials.len() > 2 && partials[0].split(' ').count() < 4, "{log}");
    let times = shown("words").first().map(|words| words.matches('-').count());
    assert_eq!(times, Some(sample.reference.split_whitespace().count()), "{log}");
    assert!(shown("latency").first().is_some_and(|figures| figures.matches(" ms ").count() >= 4), "{log}");

    let command = |way: &str| shown(way).first().map(|line| (*line).to_owned()).unwrap_or_default();
    let live = command("live, gRPC");
    let words: Vec<&str> = live.split_whitespace().skip(1).collect();
    let heard = service.smallest(&words)?.output().await?;
    sample.check(String::from_utf8(heard.stdout)?.trim())?;
    for (way, path) in [
        ("a recording", "/api/v1/lightning/get_text?word_timestamps=true"),
        ("OpenAI's API", "/v1/audio/transcriptions"),
        ("how it is", "/metrics"),
    ] {
        let named = command(way);
        assert!(named.contains(&format!("{}{path}", service.url)), "{way}: {named}");
    }
    Ok(())
}
