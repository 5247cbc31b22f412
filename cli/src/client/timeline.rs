//! Latencies of one live session from what was sent and heard when. Pure: times come in as arguments.
//!
//! Three figures a user feels:
//! - *chunk latency*: from sending the last sample of a chunk until a response says that the audio up to
//!   there was decoded (`processed_ms`), whether or not the text changed;
//! - *first partial after the word's end*: from the moment a word's last sample is spoken until a partial
//!   (or final) result holds that word for good. Here the word's end is the one that the service tells; who knows
//!   the true ends, as `bench` does of its samples, measures from those with [`Report::stands`];
//! - *time to final*: from sending the last sample of the session until its last final result.

use proto::speech::v1::streaming_recognize_response::Response;
use proto::speech::v1::{Timing, Word};
use std::time::Duration;

/// Sent chunks whose answer is awaited, at most; older ones are dropped (the service is far too slow then).
const AWAITED_CHUNKS: usize = 10_000;

/// What one session showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// All final text, words separated by blanks.
    pub text: String,
    /// Words with times, where they were asked for.
    pub words: Vec<Word>,
    /// Each chunk's latency, milliseconds.
    pub chunks_ms: Vec<f32>,
    /// For each response that decoded more: how long ago its last sample was spoken, milliseconds.
    pub lags_ms: Vec<f32>,
    /// Each chunk's latency less its waiting and inference in the worker: what gateway, Redis, wire and
    /// this client cost.
    pub overheads_ms: Vec<f32>,
    /// Each final word, and when it came to stand for good, milliseconds after sample 0 was spoken.
    pub stands: Vec<(String, f32)>,
    /// For each word, from its end as the service tells it to its first partial, milliseconds; may be negative,
    /// because the model often knows a word before it is over.
    pub partials_ms: Vec<f32>,
    /// From the last sample to the last final result, milliseconds.
    pub final_ms: Option<f32>,
    /// Audio that the service heard, seconds; told at the session's end.
    pub audio_seconds: Option<f64>,
    /// The service's name for the request, for its logs.
    pub request_id: Option<String>,
}

/// Collects one session; all times are measured from the same origin.
#[derive(Debug, Default)]
pub struct Timeline {
    /// When sample 0 was spoken.
    began: Duration,
    /// Chunks not yet decoded: where they end in milliseconds, and when they were sent.
    awaited: std::collections::VecDeque<(u64, Duration)>,
    last_sent: Option<Duration>,
    processed_ms: u64,
    /// The text by words: settled ones, then those of the newest partial; each with when it came to stand.
    shown: Vec<(String, Duration)>,
    settled: usize,
    report: Report,
}

impl Timeline {
    /// A session whose first sample is spoken at `began`.
    pub fn new(began: Duration) -> Self {
        Self { began, ..Self::default() }
    }

    /// Sample 0 was spoken at `began`; what was heard before stays.
    pub fn begin(&mut self, began: Duration) {
        self.began = began;
    }

    /// A chunk that ends at `until_ms` was sent.
    pub fn sent(&mut self, now: Duration, until_ms: u64) {
        if self.awaited.len() == AWAITED_CHUNKS {
            self.awaited.pop_front();
        }
        self.awaited.push_back((until_ms, now));
        self.last_sent = Some(now);
    }

    /// A response came.
    pub fn heard(&mut self, now: Duration, response: &Response) {
        match response {
            Response::Progress(progress) => self.processed(now, progress.processed_ms, progress.timing),
            Response::Result(result) => {
                self.show(now, &result.text);
                if result.is_final {
                    self.settle(now, &result.text, &result.words);
                }
                self.processed(now, result.processed_ms, result.timing);
            }
            Response::Ended(ended) => {
                self.report.audio_seconds =
                    ended.audio_duration.as_ref().map(|d| to_std(Some(d)).as_secs_f64());
                self.processed(now, u64::MAX, None);
            }
            Response::Started(started) => self.report.request_id = Some(started.request_id.clone()),
            Response::Speech(_) | Response::Finalized(_) => {}
        }
    }

    /// The text as it stands, final and partial.
    pub fn text(&self) -> String {
        self.shown.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Ends the session.
    pub fn finish(mut self) -> Report {
        let settled = self.shown.iter().take(self.settled);
        self.report.stands = settled.map(|(word, at)| (word.clone(), signed_ms(*at, self.began))).collect();
        // Words with times tell when each was over; without them there is nothing to measure from.
        if self.report.words.len() == self.settled {
            for (word, (_, stands)) in self.report.words.iter().zip(&self.shown) {
                let ended = self.began + to_std(word.end.as_ref());
                self.report.partials_ms.push(signed_ms(*stands, ended));
            }
        }
        self.report
    }

    fn processed(&mut self, now: Duration, processed_ms: u64, timing: Option<Timing>) {
        if processed_ms > self.processed_ms && processed_ms != u64::MAX {
            self.processed_ms = processed_ms;
            self.report.lags_ms.push(signed_ms(now, self.began + Duration::from_millis(processed_ms)));
        }
        // Positions are whole milliseconds, cut off.
        while let Some((_, sent)) =
            self.awaited.pop_front_if(|(until, _)| *until <= processed_ms.saturating_add(1))
        {
            let latency = signed_ms(now, sent);
            self.report.chunks_ms.push(latency);
            if let Some(timing) = timing {
                self.report.overheads_ms.push(latency - timing.queue_ms - timing.infer_ms);
            }
        }
    }

    fn show(&mut self, now: Duration, text: &str) {
        let mut count = self.settled;
        for word in text.split_whitespace() {
            match self.shown.get_mut(count) {
                Some((shown, _)) if shown == word => {}
                Some(slot) => *slot = (word.to_owned(), now),
                None => self.shown.push((word.to_owned(), now)),
            }
            count += 1;
        }
        self.shown.truncate(count);
    }

    fn settle(&mut self, now: Duration, text: &str, words: &[Word]) {
        self.settled = self.shown.len();
        self.report.words.extend_from_slice(words);
        if !text.is_empty() {
            if !self.report.text.is_empty() {
                self.report.text.push(' ');
            }
            self.report.text.push_str(text.trim());
        }
        self.report.final_ms = self.last_sent.map(|sent| signed_ms(now, sent));
    }
}

/// A protobuf duration as a std one; none is zero.
pub fn to_std(duration: Option<&prost_types::Duration>) -> Duration {
    duration.map_or(Duration::ZERO, |d| {
        Duration::new(
            u64::try_from(d.seconds).unwrap_or_default(),
            u32::try_from(d.nanos).unwrap_or_default(),
        )
    })
}

fn signed_ms(later: Duration, earlier: Duration) -> f32 {
    (later.as_secs_f64() * 1000.0 - earlier.as_secs_f64() * 1000.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::speech::v1 as api;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn result(text: &str, is_final: bool, processed_ms: u64) -> Response {
        let words = text.split_whitespace().enumerate().map(|(i, word)| Word {
            word: word.into(),
            start: None,
            end: Some(prost_types::Duration { seconds: 0, nanos: (i as i32 + 1) * 100_000_000 }),
            confidence: 1.0,
        });
        let words = if is_final { words.collect() } else { Vec::new() };
        Response::Result(api::Result {
            text: text.into(),
            is_final,
            words,
            processed_ms,
            ..Default::default()
        })
    }

    fn progress(processed_ms: u64, queue_ms: f32, infer_ms: f32) -> Response {
        Response::Progress(api::Progress { processed_ms, timing: Some(Timing { queue_ms, infer_ms }) })
    }

    #[test]
    fn a_chunk_counts_from_its_last_sample_until_it_is_covered() {
        let mut timeline = Timeline::new(ms(0));
        timeline.sent(ms(160), 160);
        timeline.sent(ms(320), 320);
        timeline.heard(ms(170), &progress(80, 0.0, 0.0));
        timeline.heard(ms(330), &progress(160, 2.0, 5.0));
        timeline.heard(ms(350), &result("", false, 320));
        timeline.sent(ms(360), 360);
        timeline.sent(ms(400), 400);
        timeline.heard(ms(420), &progress(400, 0.0, 0.0));
        let report = timeline.finish();
        assert_eq!(report.chunks_ms, [170.0, 30.0, 60.0, 20.0]);
        assert_eq!(report.lags_ms, [90.0, 170.0, 30.0, 20.0]);
        assert_eq!(report.overheads_ms, [163.0, 60.0, 20.0]);
    }

    #[test]
    fn a_word_counts_from_its_end_until_it_stands_for_good() {
        let mut timeline = Timeline::new(ms(1000));
        timeline.heard(ms(1150), &result("hello", false, 0));
        timeline.heard(ms(1300), &result("hello word", false, 0));
        timeline.heard(ms(1400), &result("hello world", false, 0));
        timeline.sent(ms(1450), 450);
        timeline.heard(ms(1500), &result("hello world", true, 450));
        let report = timeline.finish();
        // The words end at 100 and 200 ms of the session.
        assert_eq!(report.partials_ms, [50.0, 200.0]);
        assert_eq!(report.stands, [("hello".to_owned(), 150.0), ("world".to_owned(), 400.0)]);
        assert_eq!(report.text, "hello world");
        assert_eq!(report.final_ms, Some(50.0));
    }

    #[test]
    fn later_utterances_come_after_the_settled_ones() {
        let mut timeline = Timeline::new(ms(0));
        timeline.heard(ms(1), &result("one two", true, 0));
        timeline.heard(ms(2), &result("thr", false, 0));
        assert_eq!(timeline.text(), "one two thr");
        timeline.heard(ms(3), &result("", true, 0));
        assert_eq!(timeline.text(), "one two");
        timeline.heard(ms(4), &result("four", true, 0));
        assert_eq!(timeline.finish().text, "one two four");
    }

    #[test]
    fn the_end_covers_every_chunk() {
        let mut timeline = Timeline::new(ms(0));
        timeline.sent(ms(10), 20);
        timeline.heard(ms(30), &Response::Ended(api::Ended::default()));
        assert_eq!(timeline.finish().chunks_ms, [20.0]);
    }
}
