//! Words stand where they are spoken: their starts against those that the synthesizer told.

use e2e::clients::get_text;
use e2e::samples::samples_with_words;
use e2e::{Resource, Service};

/// Largest median of the errors, milliseconds: one frame of the model.
const MOST_MS: u64 = 40;

#[tokio::test]
async fn words_start_where_they_are_spoken() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let mut errors = Vec::new();
    for (sample, words) in samples_with_words()? {
        let answer = get_text(&service.url, sample.wav.clone()).await?;
        let heard = answer.body["words"].as_array().cloned().unwrap_or_default();
        let same =
            heard.iter().map(|word| word["word"].as_str()).eq(words.iter().map(|w| Some(w.0.as_str())));
        if !same {
            // Which word is which cannot be told; that few are wrong is for another test.
            continue;
        }
        for (word, (name, start_ms)) in heard.iter().zip(&words) {
            let start =
                word["start"].as_f64().ok_or_else(|| anyhow::anyhow!("{name} has a start: {word}"))?;
            errors.push((((start * 1e3).round() as u64).abs_diff(*start_ms), name.clone()));
        }
    }
    assert!(errors.len() >= 50, "enough words are heard right: {errors:?}");
    errors.sort();
    let median = errors[errors.len() / 2].0;
    assert!(median <= MOST_MS, "the median error is {median} ms: {errors:?}");
    Ok(())
}
