//! The scripts of the contract, one file each in `scripts/`, each behind the shared part `common.lua`.
//!
//! Redis keeps a script by its digest after the first call; when it forgot it (restart), the client sends it
//! again by itself.

use std::sync::LazyLock;

use ::redis::Script;

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("scripts/common.lua"), include_str!(concat!("scripts/", $file))))
        });
    };
}

script!(STORE_PARTS, "store_parts.lua");
script!(SUBMIT, "submit.lua");
script!(CANCEL_JOB, "cancel_job.lua");
script!(RECLAIM, "reclaim.lua");
script!(ANSWER, "answer.lua");
script!(RELEASE_JOB, "release_job.lua");
script!(DISCARD, "discard.lua");
script!(OPEN_SESSION, "open_session.lua");
script!(CANCEL_SESSION, "cancel_session.lua");
script!(TAKE_SESSION, "take_session.lua");
script!(COMMIT, "commit.lua");
script!(RELEASE_SESSION, "release_session.lua");
script!(END_SESSION, "end_session.lua");
script!(ADOPT_SESSION, "adopt_session.lua");
script!(HEARTBEAT, "heartbeat.lua");
script!(UNREGISTER, "unregister.lua");
script!(DEPTH, "depth.lua");
script!(HEARTBEAT_GATEWAY, "heartbeat_gateway.lua");
script!(OBSERVE, "observe.lua");
