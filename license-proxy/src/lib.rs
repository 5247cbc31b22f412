//! License proxy: gateway or worker → edge → decide → license ↔ upstream.
//!
//! A program beside those that serve. It reads a signed license (or asks the license server for one), decides
//! with [`decide::decide`] whether work may be done now, answers that question on port 6699, and counts what
//! was done. Those that serve hold a [`LicenseGate`], which always has an answer at hand and never blocks a
//! request. Nobody here ever sees audio, text, or who sent it.

pub mod client;
pub mod decide;
pub mod edge;
pub mod issue;
pub mod license;
pub mod meter;
pub mod service;
pub mod token;
pub mod upstream;

pub use client::LicenseGate;
pub use decide::{Decision, DenyReason, Standing};
pub use meter::Usage;
