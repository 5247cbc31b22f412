//! The whole path with real programs: one story a file.

mod bad_input;
mod clients;
mod demo;
mod license;
mod model_files;
mod openai_sdk;
mod processes;
mod quickstart;
mod redis_stopped;
mod word_times;
mod worker_killed;
