//! How Kubernetes sees that a program has started, lives, and takes work.
//!
//! A program that starts is given the whole budget of its component (a model of 20 GB takes minutes) before anything
//! else is asked of it; after that, only a program that answers nothing at all is started again.

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::component::{ComponentKind, Container as Program};
use crate::names;
use crate::valid::Valid;

/// The three probes of a container.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) startup: Option<Probe>,
    pub(super) liveness: Option<Probe>,
    pub(super) readiness: Option<Probe>,
}

/// Longest start of a component, seconds.
pub(super) fn startup_seconds(valid: &Valid, kind: ComponentKind) -> u32 {
    let given = valid.lifecycle(kind).and_then(|lifecycle| lifecycle.startup_seconds);
    given.unwrap_or(match kind {
        ComponentKind::Asr | ComponentKind::Tts => 1800,
        // Redis may be on its way to another node, with its volume.
        ComponentKind::Gateway | ComponentKind::Redis => 300,
        ComponentKind::LicenseProxy => 60,
    })
}

/// The probes of a program.
pub(super) fn of(valid: &Valid, program: &Program) -> Probes {
    let budget = startup_seconds(valid, program.kind);
    match program.kind {
        ComponentKind::Gateway => Probes {
            startup: Some(starting(http("http", "/api/v1/health"), 1, budget)),
            liveness: Some(living(http("http", "/api/v1/health"))),
            readiness: Some(taking_work(http("http", "/healthz"))),
        },
        ComponentKind::Asr | ComponentKind::Tts => Probes {
            startup: Some(starting(http("health", "/health"), 2, budget)),
            liveness: Some(living(http("health", "/livez"))),
            readiness: Some(taking_work(http("health", "/health"))),
        },
        // It listens on the loopback address, where the kubelet cannot reach it: its own program asks it.
        ComponentKind::LicenseProxy => {
            let ask = exec(&[&format!("{}/{}", names::PROGRAMS, names::LICENSE_PROXY), "probe"]);
            Probes { startup: Some(starting(ask, 1, budget)), ..Probes::default() }
        }
        ComponentKind::Redis => {
            let port = program.port("redis").unwrap_or_default().to_string();
            // A Redis that still reads its files lives, but an error is all it answers.
            let ping = exec(&["redis-cli", "-e", "-p", &port, "ping"]);
            Probes {
                startup: Some(starting(tcp("redis"), 1, budget)),
                liveness: Some(living(tcp("redis"))),
                readiness: Some(taking_work(ping)),
            }
        }
    }
}

fn starting(probe: Probe, period_seconds: u32, budget_seconds: u32) -> Probe {
    Probe {
        period_seconds: Some(period_seconds as i32),
        timeout_seconds: Some(2),
        failure_threshold: Some(budget_seconds.div_ceil(period_seconds) as i32),
        ..probe
    }
}

fn living(probe: Probe) -> Probe {
    Probe { period_seconds: Some(10), timeout_seconds: Some(5), failure_threshold: Some(3), ..probe }
}

fn taking_work(probe: Probe) -> Probe {
    Probe { period_seconds: Some(5), timeout_seconds: Some(3), failure_threshold: Some(2), ..probe }
}

fn http(port: &str, path: &str) -> Probe {
    let port = IntOrString::String(port.to_owned());
    let get = HTTPGetAction { path: Some(path.to_owned()), port, ..HTTPGetAction::default() };
    Probe { http_get: Some(get), ..Probe::default() }
}

fn tcp(port: &str) -> Probe {
    let socket = TCPSocketAction { port: IntOrString::String(port.to_owned()), host: None };
    Probe { tcp_socket: Some(socket), ..Probe::default() }
}

fn exec(command: &[&str]) -> Probe {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Probe { exec: Some(ExecAction { command: Some(command) }), ..Probe::default() }
}
