//! Two bounds for work on recordings: memory of all requests together, and threads that decode.
//!
//! A [`Lease`] grows while a body is read or audio decoded and gives its bytes back when dropped; growing
//! beyond the [`Budget`] is refused at once, never waited for. Knows nothing of formats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use crate::error::Error;

/// Memory for bodies and decoded audio.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: AtomicU64,
}

/// A growing part of a [`Budget`].
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        Self { shared: Arc::new(Shared { limit, used: AtomicU64::new(0) }) }
    }

    /// An empty part.
    pub fn lease(&self) -> Lease {
        Lease { shared: self.shared.clone(), bytes: 0 }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Takes more bytes, or refuses.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let limit = self.shared.limit;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Error::Overloaded { what: "bytes of audio", limit }),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Threads that decode.
#[derive(Debug, Clone)]
pub struct Pool {
    permits: Arc<Semaphore>,
}

impl Pool {
    /// So many at once; 0 is one for every core.
    pub fn new(threads: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { cores } else { threads };
        Self { permits: Arc::new(Semaphore::new(threads)) }
    }

    /// Runs blocking work on a free thread. A panic inside a codec is the recording's fault and stays with it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Internal("the decode pool is closed"))?;
        let job = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        job.await
            .unwrap_or_else(|_| Err(Error::InvalidAudio("the decoder gave up on these bytes".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_gives_back_what_it_took() {
        let budget = Budget::new(100);
        let mut one = budget.lease();
        one.grow(60).unwrap();
        assert!(budget.lease().grow(41).is_err());
        assert!(one.grow(u64::MAX).is_err());
        assert_eq!(budget.used(), 60);
        drop(one);
        assert_eq!(budget.used(), 0);
        budget.lease().grow(100).unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_a_codec_stays_with_its_recording() {
        let pool = Pool::new(1);
        let broken = pool.run::<()>(|| panic!("index out of bounds")).await;
        assert_eq!(broken.unwrap_err().reason(), "InvalidAudio");
        assert_eq!(pool.run(|| Ok(7)).await.unwrap(), 7);
    }
}
