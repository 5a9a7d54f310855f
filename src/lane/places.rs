//! How many rsync processes the lanes of an instance may have at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many rsync processes may be at work, and as many more may wait for something to do.
#[derive(Debug, Clone)]
pub struct Places {
    work: Arc<Semaphore>,
    wait: Arc<Semaphore>,
}

impl Places {
    /// Places for `number` processes of either sort.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self {
            work: Arc::new(Semaphore::new(number)),
            wait: Arc::new(Semaphore::new(number)),
        }
    }

    /// The right to have a process at work, when there is a place.
    pub async fn work(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.work).acquire_owned().await.ok()
    }

    /// The right to have a process wait, if there is a place now.
    #[must_use]
    pub fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.wait).try_acquire_owned().ok()
    }
}
