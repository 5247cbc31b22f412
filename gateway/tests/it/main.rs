//! The gateway from outside: real sockets on free ports, every edge, over the queue in memory and a scripted
//! worker. What a real model would write does not matter here; what travels, and what does not, does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the answer")]

mod audio;
mod drain;
mod faults;
mod grpc;
mod harness;
mod input;
mod leftover;
mod limits;
mod openai;
mod redis;
mod rest;
mod takeover;
mod trace;
mod websocket;
mod worker;
