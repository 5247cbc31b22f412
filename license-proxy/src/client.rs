//! [`LicenseGate`]: what gateway and workers hold. It always has an answer and never blocks a request.
//!
//! A background task asks the proxy and waits there until the decision changes. When the proxy goes away, the
//! last answer counts for a while, since a sidecar may restart; after that new work is refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::decide::{Decision, DenyReason, Standing, standing};
use crate::edge::{DecisionAnswer, MAX_WAIT};
use crate::meter::{Report, Usage};
use crate::service::now_ms;

/// The last answer counts this long after the proxy went away.
const OUTAGE: Duration = Duration::from_mins(1);
/// Pause after the first failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often usage is sent.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Longest wait of `connect` for a first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// The license as those who serve see it. Cheap to clone.
#[derive(Clone)]
pub struct LicenseGate {
    inner: Arc<Inner>,
}

struct Inner {
    decision: watch::Sender<Decision>,
    /// What came with the last answer: whether it is the grace period's, and the end of the license.
    beside: Mutex<(bool, Option<u64>)>,
    audio_ms: AtomicU64,
    requests: AtomicU64,
    proxy: Option<Proxy>,
    /// The report that was sent and not acknowledged, and the sequence number to come.
    unsent: tokio::sync::Mutex<(Option<Report>, u64)>,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

struct Proxy {
    client: reqwest::Client,
    url: String,
    component: &'static str,
    reporter: String,
}

impl LicenseGate {
    /// Connects to the proxy at `url` for `gateway`, `asr` or `tts`. Waits a moment for a first answer; without
    /// one the decision is [`Decision::Unknown`] until the proxy answers.
    ///
    /// # Panics
    /// Never: a client without certificates or files cannot fail to build.
    pub async fn connect(url: &str, component: &'static str) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(MAX_WAIT + Duration::from_secs(5))
            .build()
            .expect("a client without certificates or files cannot fail to build");
        let proxy = Proxy {
            client,
            url: url.trim_end_matches('/').to_owned(),
            component,
            reporter: uuid::Uuid::now_v7().simple().to_string(),
        };
        let gate = Self::with(Decision::Unknown, Some(proxy));
        let follow = tokio::spawn(follow(Arc::downgrade(&gate.inner)));
        let report = tokio::spawn(report(Arc::downgrade(&gate.inner)));
        let tasks = vec![follow.abort_handle(), report.abort_handle()];
        *gate.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        let mut changed = gate.changed();
        let first = changed.wait_for(|decision| *decision != Decision::Unknown);
        if tokio::time::timeout(FIRST_ANSWER, first).await.is_err() {
            tracing::warn!(url, "the license proxy has not answered yet");
        }
        gate
    }

    /// The decision now.
    pub fn current(&self) -> Decision {
        let decision = self.inner.decision.borrow().clone();
        expired(&decision).unwrap_or(decision)
    }

    /// How the license stands, for people.
    pub fn standing(&self) -> Standing {
        let (grace_period_active, ends_ms) =
            *self.inner.beside.lock().unwrap_or_else(PoisonError::into_inner);
        standing(&self.current(), grace_period_active, ends_ms)
    }

    /// Every change of the decision.
    pub fn changed(&self) -> watch::Receiver<Decision> {
        self.inner.decision.subscribe()
    }

    /// Counts what was done. Sent in batches from the background.
    pub fn count(&self, usage: Usage) {
        self.inner.audio_ms.fetch_add(usage.audio_ms, Ordering::Relaxed);
        self.inner.requests.fetch_add(usage.requests, Ordering::Relaxed);
    }

    /// Sends what was counted and not sent yet, once; call it when the program ends.
    pub async fn flush(&self) {
        self.inner.send_usage().await;
    }

    /// A gate that is open, for tests.
    pub fn always_granted() -> Self {
        Self::with(Decision::Granted { valid_until_ms: None, max_streams: None }, None)
    }

    /// A gate with a given decision and the hand that changes it, for tests.
    pub fn scripted(decision: Decision) -> (Self, impl Fn(Decision) + Send + Sync + 'static) {
        let gate = Self::with(decision, None);
        let hand = gate.clone();
        (gate, move |decision| {
            hand.inner.decision.send_replace(decision);
        })
    }

    fn with(decision: Decision, proxy: Option<Proxy>) -> Self {
        let inner = Inner {
            decision: watch::Sender::new(decision),
            beside: Mutex::default(),
            audio_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            proxy,
            unsent: tokio::sync::Mutex::new((None, 1)),
            tasks: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

/// The refusal, if time has run out on a grant since it was given.
fn expired(decision: &Decision) -> Option<Decision> {
    match decision {
        Decision::Granted { valid_until_ms: Some(until), .. } if now_ms() >= *until => {
            Some(Decision::Denied {
                reason: DenyReason::LicenseExpired,
                message: "the license has ended: ask for a new one".to_owned(),
            })
        }
        _ => None,
    }
}

/// Follows the proxy's decision for as long as somebody holds the gate.
async fn follow(gate: Weak<Inner>) {
    let mut known = None;
    let mut pause = FIRST_PAUSE;
    let mut lost: Option<Instant> = None;
    loop {
        let Some((request, until)) = gate.upgrade().and_then(|inner| inner.request(known.as_deref())) else {
            return;
        };
        // A grant that ends while the answer waits is withdrawn on time.
        let answer = tokio::time::timeout(until, ask(request)).await;
        let Some(inner) = gate.upgrade() else { return };
        match answer {
            Err(_) => inner.withdraw(),
            Ok(Some(answer)) => {
                (pause, lost) = (FIRST_PAUSE, None);
                known = Some(answer.tag);
                let beside = (answer.grace_period_active, answer.license_ends_ms);
                *inner.beside.lock().unwrap_or_else(PoisonError::into_inner) = beside;
                inner.publish(answer.decision);
            }
            Ok(None) => {
                let since = *lost.get_or_insert_with(Instant::now);
                if since.elapsed() >= OUTAGE {
                    inner.publish(Decision::Denied {
                        reason: DenyReason::LicenseProxyUnreachable,
                        message: "the license proxy does not answer: see whether it runs".to_owned(),
                    });
                }
                known = None;
                drop(inner);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Option<DecisionAnswer> {
    request.send().await.ok()?.error_for_status().ok()?.json().await.ok()
}

async fn report(gate: Weak<Inner>) {
    let mut tick = tokio::time::interval(REPORT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(inner) = gate.upgrade() else { return };
        inner.send_usage().await;
    }
}

impl Inner {
    /// The next question, and how long the present decision lasts at most.
    fn request(&self, known: Option<&str>) -> Option<(reqwest::RequestBuilder, Duration)> {
        let proxy = self.proxy.as_ref()?;
        let wait_ms = if known.is_some() { MAX_WAIT.as_millis() } else { 0 };
        let mut url = format!("{}/v1/decision?component={}&wait_ms={wait_ms}", proxy.url, proxy.component);
        if let Some(known) = known {
            url = format!("{url}&known={known}");
        }
        let until = match &*self.decision.borrow() {
            Decision::Granted { valid_until_ms: Some(until), .. } => {
                Duration::from_millis(until.saturating_sub(now_ms()) + 1)
            }
            _ => MAX_WAIT * 2,
        };
        Some((proxy.client.get(url), until.min(MAX_WAIT * 2)))
    }

    fn withdraw(&self) {
        let ended = expired(&self.decision.borrow());
        if let Some(ended) = ended {
            self.publish(ended);
        }
    }

    fn publish(&self, decision: Decision) {
        let word = match &decision {
            Decision::Granted { .. } => "granted",
            Decision::Denied { reason, .. } => reason.as_str(),
            Decision::Unknown => "unknown",
        };
        let changed = self.decision.send_if_modified(|current| {
            let changed = *current != decision;
            *current = decision;
            changed
        });
        if changed {
            tracing::info!(decision = word, "license decision");
        }
    }

    async fn send_usage(&self) {
        let Some(proxy) = &self.proxy else { return };
        let mut unsent = self.unsent.lock().await;
        let report = match unsent.0.take() {
            Some(report) => report,
            None => match self.take_usage(proxy, unsent.1) {
                Some(report) => report,
                None => return,
            },
        };
        let request = proxy.client.post(format!("{}/v1/usage", proxy.url)).json(&report);
        let request = request.timeout(Duration::from_secs(5));
        let settled = matches!(request.send().await, Ok(answer)
            if answer.status().is_success() || answer.status().is_client_error());
        if settled {
            unsent.1 = report.sequence + 1;
        } else {
            unsent.0 = Some(report);
        }
    }

    fn take_usage(&self, proxy: &Proxy, sequence: u64) -> Option<Report> {
        let usage = Usage {
            audio_ms: self.audio_ms.swap(0, Ordering::Relaxed),
            requests: self.requests.swap(0, Ordering::Relaxed),
        };
        (usage != Usage::default()).then(|| Report {
            reporter: proxy.reporter.clone(),
            sequence,
            component: proxy.component.to_owned(),
            usage,
        })
    }
}
