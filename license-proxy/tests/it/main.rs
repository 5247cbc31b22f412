//! The proxy over HTTP: licenses of every kind, a license server with every answer, gates, and the program.

mod file;
mod gate;
mod program;
mod server;
mod world;
