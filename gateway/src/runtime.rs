//! The threads that move everything: before all else, at the start of the program.

use tokio::runtime::{Builder, Runtime};

/// Processors for each thread. A thread moves about 5,000 chunks of live audio a second; Redis and the worker beside it
/// need processors too, and on few of them more threads only wake each other.
const PROCESSORS_A_THREAD: usize = 2;

/// The runtime of a gateway on this machine. Audio is decoded by threads of its own ([`crate::audio::pool`]).
///
/// # Errors
/// The system gives no more threads or files.
pub fn runtime() -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = processors.div_ceil(PROCESSORS_A_THREAD);
    Builder::new_multi_thread().worker_threads(threads).thread_name("gateway").enable_all().build()
}
