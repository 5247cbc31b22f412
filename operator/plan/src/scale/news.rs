//! Which changes of a view somebody must hear of, and how soon. Pure.
//!
//! A queue changes many times a second; a status is written when something changed that people look for.

use crate::reading::{ComponentReading, GatewayReading, LicenseReading, QueueView, Reading, WorkerReading};

/// How soon a change is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing that a status shows.
    None,
    /// A number moved: soon enough when the next ones are in as well.
    Later,
    /// Something happened: at once.
    Now,
}

/// What is new in a view.
pub fn news(before: &QueueView, after: &QueueView) -> News {
    match (before, after) {
        (QueueView::Read(before), QueueView::Read(after)) => of_readings(before, after),
        (QueueView::NotRead, QueueView::NotRead) => News::None,
        (QueueView::Unavailable { reason: before, .. }, QueueView::Unavailable { reason: after, .. })
            if before == after =>
        {
            News::None
        }
        _ => News::Now,
    }
}

fn of_readings(before: &Reading, after: &Reading) -> News {
    let gateways = |reading: &Reading| {
        let license = |gateway: &GatewayReading| (gateway.id.clone(), license(gateway.license.as_ref()));
        reading.gateways.iter().map(license).collect::<Vec<_>>()
    };
    let of_gateways = if gateways(before) == gateways(after) { News::None } else { News::Now };
    of_gateways.max(of_component(&before.asr, &after.asr)).max(of_component(&before.tts, &after.tts))
}

fn of_component(before: &ComponentReading, after: &ComponentReading) -> News {
    let happened = |component: &ComponentReading| {
        let waits = (component.batch_queue_depth > 0, component.stream_queue_depth > 0);
        (waits, component.workers.iter().map(standing).collect::<Vec<_>>())
    };
    if happened(before) != happened(after) {
        return News::Now;
    }
    let numbers = |component: &ComponentReading| {
        let messages: Vec<_> = component.workers.iter().map(|worker| worker.message.clone()).collect();
        (component.queue_depth(), component.active_streams(), component.active_requests(), messages)
    };
    if numbers(before) == numbers(after) { News::None } else { News::Later }
}

/// What of a worker does not move while it works.
fn standing(worker: &WorkerReading) -> impl PartialEq + use<> {
    let model = (worker.model.clone(), worker.model_sha256.clone(), worker.slots);
    (worker.id.clone(), worker.phase, model, license(worker.license.as_ref()))
}

fn license(license: Option<&LicenseReading>) -> Option<(String, Option<k8s_openapi::jiff::Timestamp>)> {
    license.map(|license| (license.state.clone(), license.expires_at.as_ref().map(|time| time.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::WorkerPhase;
    use crate::scale::testing::{at_work, waits, worker};

    fn read(asr: ComponentReading) -> QueueView {
        QueueView::Read(Reading { asr, ..Reading::default() })
    }

    #[test]
    fn what_happened_is_told_at_once_and_numbers_later() {
        let away =
            |message: &str| QueueView::Unavailable { reason: "QueueUnavailable", message: message.into() };
        let loading = |message: &str| {
            let mut worker = worker("a", 0);
            (worker.phase, worker.message) = (WorkerPhase::Downloading, Some(message.to_owned()));
            read(at_work(&[worker]))
        };
        let older = || {
            let mut asr = waits(1, 0);
            asr.batch_oldest_wait_ms = 9_000;
            read(asr)
        };
        for (name, before, after, expected) in [
            ("the first look", QueueView::NotRead, read(waits(0, 0)), News::Now),
            ("nothing", read(waits(0, 0)), read(waits(0, 0)), News::None),
            ("time passed", read(waits(1, 0)), older(), News::None),
            ("something waits", read(waits(0, 0)), read(waits(1, 0)), News::Now),
            ("nothing waits any more", read(waits(0, 1)), read(waits(0, 0)), News::Now),
            ("more waits", read(waits(1, 0)), read(waits(2, 0)), News::Later),
            (
                "a stream more",
                read(at_work(&[worker("a", 1)])),
                read(at_work(&[worker("a", 2)])),
                News::Later,
            ),
            ("another worker", read(at_work(&[])), read(at_work(&[worker("a", 0)])), News::Now),
            ("another phase", loading("10 %"), read(at_work(&[worker("a", 0)])), News::Now),
            ("a download goes on", loading("10 %"), loading("20 %"), News::Later),
            ("an outage", read(waits(0, 0)), away("refused"), News::Now),
            ("it lasts", away("refused"), away("timed out"), News::None),
        ] {
            assert_eq!(news(&before, &after), expected, "{name}");
        }
    }
}
