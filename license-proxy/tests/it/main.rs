//! The proxy over HTTP.
