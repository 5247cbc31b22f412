//! The external metrics over real TLS: who is believed, who may, what is answered; and how the certificate is kept.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod answers;
mod kept;
mod rig;
