//! What the queue crate saw → what status, metrics and scaling go by. Pure.

use std::error::Error as _;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_plan::{
    ComponentReading, GatewayReading, LicenseReading, QueueView, Reading, WorkerPhase, WorkerReading,
};
use queue::observe::{ComponentSight, Sight};
use queue::port::{GatewayRecord, LicenseRecord, QueueError, WorkerRecord};

/// A look that succeeded.
pub(super) fn read(sight: Sight) -> QueueView {
    let mut reading = Reading::default();
    for mut component in sight.components {
        // A gateway registers where its work goes; one that serves both components is one gateway all the same.
        for gateway in component.gateways.drain(..) {
            if reading.gateways.iter().all(|known| known.id != gateway.id.as_str()) {
                reading.gateways.push(of_gateway(gateway));
            }
        }
        match component.component {
            "asr" => reading.asr = of_component(component),
            _ => reading.tts = of_component(component),
        }
    }
    QueueView::Read(reading)
}

/// A look that failed.
pub(super) fn unavailable(error: &QueueError) -> QueueView {
    let message = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    QueueView::Unavailable { reason: error.reason(), message }
}

fn of_component(sight: ComponentSight) -> ComponentReading {
    ComponentReading {
        batch_queue_depth: sight.depth.batch,
        stream_queue_depth: sight.depth.sessions,
        batch_oldest_wait_ms: sight.depth.batch_oldest_ms,
        stream_oldest_wait_ms: sight.depth.session_oldest_ms,
        held_requests: sight.held_jobs,
        held_streams: sight.held_sessions,
        workers: sight.workers.into_iter().map(of_worker).collect(),
    }
}

fn of_worker(record: WorkerRecord) -> WorkerReading {
    // A worker of the first version says that it drains in another way.
    let drains = record.phase == queue::port::WorkerPhase::Ready && record.draining;
    WorkerReading {
        id: record.id.to_string(),
        pod: record.pod,
        phase: if drains { WorkerPhase::Draining } else { of_phase(record.phase) },
        message: record.message,
        model: record.model,
        model_sha256: record.model_sha256,
        slots: record.slots,
        batch_slots: record.batch_slots,
        active_streams: record.active_streams,
        active_requests: record.active_requests,
        license: record.license.map(of_license),
    }
}

fn of_phase(phase: queue::port::WorkerPhase) -> WorkerPhase {
    use queue::port::WorkerPhase as Record;
    match phase {
        Record::Starting => WorkerPhase::Starting,
        Record::Downloading => WorkerPhase::Downloading,
        Record::Loading => WorkerPhase::Loading,
        Record::WarmingUp => WorkerPhase::WarmingUp,
        Record::Ready => WorkerPhase::Ready,
        Record::Draining => WorkerPhase::Draining,
        Record::Failed => WorkerPhase::Failed,
    }
}

fn of_gateway(record: GatewayRecord) -> GatewayReading {
    GatewayReading {
        id: record.id.to_string(),
        pod: record.pod,
        active_requests: record.active_requests,
        active_streams: record.active_streams,
        license: record.license.map(of_license),
    }
}

fn of_license(record: LicenseRecord) -> LicenseReading {
    let instant = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    LicenseReading {
        state: record.state,
        message: record.message,
        expires_at: record.expires_at_ms.and_then(instant).map(Time),
    }
}
