//! The trace of a request goes on behind the queue: in the span of the work, and in the steps that advance it.

use queue::ids::GatewayId;
use queue::job::BatchJob;
use queue::port::GatewayPort as _;
use telemetry::testing::{Finished, Recorded, record};
use workers_engine::fake::speak;

use crate::gateway::{Live, PATIENCE, answers, job, options, pcm};
use crate::rig::Rig;

/// Waits until a span of this name is finished; gives all of the trace.
async fn finished(spans: &Recorded, trace: &str, name: &str) -> Vec<Finished> {
    let look = async {
        loop {
            let found = spans.of(trace);
            if found.iter().any(|span| span.name == name) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the work's span ends")
}

#[tokio::test]
async fn a_recording_is_one_span_with_its_steps_below() {
    let spans = record();
    let rig = Rig::start();
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let gateway = GatewayId::generate();
    let audio = speak(&["hello", "world"]);
    let traceparent = Some(format!("00-{trace}-{parent}-01"));
    let job = BatchJob { traceparent, ..job(&gateway, audio.len()) };
    rig.queue.submit(&job, pcm(&audio)).await.unwrap();
    answers(&rig.queue, &gateway, 1).await;
    let found = finished(&spans, trace, "job").await;
    let work = found.iter().find(|span| span.name == "job").unwrap();
    assert_eq!((work.trace.as_str(), work.parent.as_str()), (trace, parent));
    assert!(work.fields.contains(&format!("job={}", job.id)), "{work:?}");
    let steps: Vec<_> = found.iter().filter(|span| span.name == "step").collect();
    assert!(!steps.is_empty() && steps.iter().all(|step| step.parent == work.id), "{found:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_step_shows_in_the_traces_of_all_its_streams() {
    let spans = record();
    let rig = Rig::start();
    let traces = ["11111111111111111111111111111111", "22222222222222222222222222222222"];
    let mut streams = Vec::new();
    for trace in traces {
        let traceparent = Some(format!("00-{trace}-00f067aa0ba902b7-01"));
        let mut live = Live::open_traced(rig.port(), options(), traceparent).await;
        live.until("claimed", |l| l.worker.is_some()).await;
        streams.push(live);
    }
    for live in &mut streams {
        live.say(&speak(&["good", "morning"])).await;
        live.end().await;
    }
    for live in &mut streams {
        live.until("the end", Live::closed).await;
    }
    for trace in traces {
        let found = finished(&spans, trace, "session").await;
        let session = found.iter().find(|span| span.name == "session").unwrap();
        assert_eq!((session.trace.as_str(), session.parent.as_str()), (trace, "00f067aa0ba902b7"));
        // Below it, or below another one's and linked to it.
        assert!(found.iter().any(|span| span.name == "step"), "{found:?}");
        let below = |span: &&Finished| span.name == "step" && span.trace == trace;
        assert!(found.iter().filter(below).all(|step| step.parent == session.id), "{found:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn work_without_a_trace_begins_one_and_a_trace_that_is_not_wanted_is_not_shown() {
    let spans = record();
    let rig = Rig::start();
    let gateway = GatewayId::generate();
    let audio = speak(&["hello"]);
    let trace = "33333333333333333333333333333333";
    let unsampled = Some(format!("00-{trace}-00f067aa0ba902b7-00"));
    for traceparent in [None, unsampled, Some("nonsense".to_owned())] {
        let job = BatchJob { traceparent, ..job(&gateway, audio.len()) };
        rig.queue.submit(&job, pcm(&audio)).await.unwrap();
        let reply = answers(&rig.queue, &gateway, 1).await.remove(0);
        assert_eq!(reply.outcome.unwrap().text, "hello");
    }
    assert_eq!(spans.of(trace), Vec::new());
    rig.stop().await;
}
