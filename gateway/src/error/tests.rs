//! The table as a whole: what clients are promised in `docs/api.md` is what the code answers.

use super::*;

fn all() -> Vec<Error> {
    use WorkErrorKind as K;
    let (text, time) = (String::new, Duration::ZERO);
    let mut all = vec![
        Error::AudioMissing,
        Error::MissingParameter("url"),
        Error::InvalidParameter { name: "language", detail: text() },
        Error::InvalidMessage(text()),
        Error::UnsupportedContentType(text()),
        Error::UnsupportedFormat(text()),
        Error::InvalidAudio(text()),
        Error::TruncatedAudio(text()),
        Error::BodyTooLarge { limit_bytes: 1 },
        Error::AudioTooLong { limit_s: 1 },
        Error::HeaderTooLarge { limit_bytes: 1 },
        Error::RequestTimeout(time),
        Error::KeyMissing,
        Error::KeyInvalid,
        Error::LicenseInvalid(text()),
        Error::LicenseExpired(text()),
        Error::LicenseDenied(text()),
        Error::LicenseUnknown(text()),
        Error::Overloaded { what: "streams", limit: 1 },
        Error::QueueFull { waiting: 1, limit: 1 },
        Error::QueueTimeout(time),
        Error::QueueUnavailable(None),
        Error::Draining,
        Error::DeadlineExceeded(time),
    ];
    let kinds = [
        K::UnknownModel,
        K::UnknownLanguage,
        K::UnsupportedOption,
        K::AudioLost,
        K::AttemptsExhausted,
        K::Cancelled,
        K::Engine,
    ];
    all.extend(kinds.map(|kind| Error::Work(WorkError { kind, message: text() })));
    all.extend([
        Error::SlowClient(1),
        Error::ClientGone,
        Error::IdleTimeout(time),
        Error::SessionNotFound(text()),
        Error::SessionTaken,
        Error::SessionLost,
        Error::UrlFetchDisabled,
        Error::FetchUrl(text()),
        Error::NotFound(text()),
        Error::MethodNotAllowed(""),
        Error::Internal(""),
    ]);
    all
}

#[test]
fn the_documented_table_is_the_one_in_the_code() {
    let row = |e: &Error| {
        let f = e.facts();
        let grpc = format!("{:?}", f.grpc);
        format!("| `{}` | `{}` | {} | {grpc} | {} |", f.reason, f.code, f.status.as_u16(), f.close)
    };
    let table = all().iter().map(row).collect::<Vec<_>>().join("\n");
    let docs = include_str!("../../../docs/api.md");
    assert!(docs.contains(&table), "docs/api.md must hold this table:\n{table}");
}

#[test]
fn what_a_worker_and_the_gateway_both_find_is_told_alike() {
    use WorkErrorKind as K;
    let work = |kind| Error::Work(WorkError { kind, message: String::new() }).facts();
    assert_eq!(work(K::DeadlineExceeded), Error::DeadlineExceeded(Duration::ZERO).facts());
    assert_eq!(work(K::LicenseDenied), Error::LicenseDenied(String::new()).facts());
    assert_eq!(work(K::IdleTimeout), Error::IdleTimeout(Duration::ZERO).facts());
}

#[test]
fn overload_and_outage_say_when_to_come_back() {
    for error in all() {
        let facts = error.facts();
        let wait = matches!(facts.status.as_u16(), 429 | 503 | 504) && facts.reason != "SlowClient";
        assert_eq!(facts.retry_after.is_some(), wait || facts.reason == "Engine", "{}", facts.reason);
    }
}

#[test]
fn bodies_hold_every_name_that_clients_look_for() {
    let error = Error::Overloaded { what: "streams", limit: 3 };
    let body = error.body("id-1");
    let message = "failed to accept more streams: the limit of 3 is reached";
    assert_eq!(body["message"], message);
    assert_eq!((&body["request_id"], &body["retry_after"]), (&json!("id-1"), &json!(1)));
    let openai = error.openai_body();
    assert_eq!(openai["error"]["type"], "rate_limit_error");
    assert_eq!(Error::AudioMissing.openai_body()["error"]["param"], "file");
    assert_eq!(Error::UnsupportedFormat(String::new()).body("")["supported_formats"][0], "wav");
}
