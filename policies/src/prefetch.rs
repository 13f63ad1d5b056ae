//! Batches read ahead of the update that needs them.
//!
//! Batch k is drawn from the stream `batches.index(k)` and from nothing else, so reading ahead, or
//! starting at any k, gives the same batches as drawing each when it is needed.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use telic_seed::Seed;

use crate::{BatchSampler, PolicyError};

/// Hands out batches in order and takes their buffers back.
pub struct BatchReader<Batch> {
    source: Source<Batch>,
    next: u64,
}

enum Source<Batch> {
    Inline {
        sampler: Box<dyn BatchSampler<Batch>>,
        seed: Seed,
        buffer: Option<Batch>,
    },
    Thread {
        filled: Option<Receiver<Batch>>,
        empty: Option<SyncSender<Batch>>,
        handle: Option<JoinHandle<()>>,
    },
}

impl<Batch: Send + 'static> BatchReader<Batch> {
    /// Batches `first`, `first + 1`, … from `sampler`; `ahead` of them are read on another thread, 0 for none.
    ///
    /// # Errors
    /// [`PolicyError::Sampler`] if the thread cannot start.
    pub fn new(
        mut sampler: Box<dyn BatchSampler<Batch>>,
        seed: Seed,
        first: u64,
        ahead: usize,
    ) -> Result<Self, PolicyError> {
        if ahead == 0 {
            let source = Source::Inline {
                sampler,
                seed,
                buffer: None,
            };
            return Ok(Self {
                source,
                next: first,
            });
        }
        // Buffers circulate: one with the learner, `ahead` filled ones. Both channels hold them all, so that
        // neither side ever waits to give a buffer away.
        let buffers = ahead + 1;
        let (send_filled, filled) = sync_channel(buffers);
        let (empty, receive_empty) = sync_channel(buffers);
        for _ in 0..buffers {
            empty
                .send(sampler.new_batch())
                .expect("the receiver is in this function");
        }
        let read = move || {
            let mut index = first;
            while let Ok(mut batch) = receive_empty.recv() {
                sampler.sample(&mut seed.index(index).rng(), &mut batch);
                if send_filled.send(batch).is_err() {
                    break;
                }
                index += 1;
            }
        };
        let handle = std::thread::Builder::new()
            .name("batches".into())
            .spawn(read)
            .map_err(|error| PolicyError::Sampler {
                batch: first,
                reason: error.to_string(),
            })?;
        let source = Source::Thread {
            filled: Some(filled),
            empty: Some(empty),
            handle: Some(handle),
        };
        Ok(Self {
            source,
            next: first,
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`PolicyError::Sampler`] if the reading thread panicked.
    pub fn next_batch(&mut self) -> Result<Batch, PolicyError> {
        let index = self.next;
        let batch = match &mut self.source {
            Source::Inline {
                sampler,
                seed,
                buffer,
            } => {
                let mut batch = buffer.take().unwrap_or_else(|| sampler.new_batch());
                sampler.sample(&mut seed.index(index).rng(), &mut batch);
                batch
            }
            Source::Thread { filled, handle, .. } => match filled.as_ref().map(Receiver::recv) {
                Some(Ok(batch)) => batch,
                _ => {
                    return Err(PolicyError::Sampler {
                        batch: index,
                        reason: last_words(handle.take()),
                    });
                }
            },
        };
        self.next += 1;
        Ok(batch)
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, batch: Batch) {
        match &mut self.source {
            Source::Inline { buffer, .. } => *buffer = Some(batch),
            Source::Thread { empty, .. } => {
                // A thread that is gone is reported by the next `next_batch`.
                let _ = empty.as_ref().map(|empty| empty.send(batch));
            }
        }
    }
}

impl<Batch> Drop for BatchReader<Batch> {
    fn drop(&mut self) {
        if let Source::Thread {
            filled,
            empty,
            handle,
        } = &mut self.source
        {
            drop(filled.take());
            drop(empty.take());
            if let Some(handle) = handle.take() {
                let _ = handle.join();
            }
        }
    }
}

fn last_words(handle: Option<JoinHandle<()>>) -> String {
    let Some(Err(panic)) = handle.map(JoinHandle::join) else {
        return "it ended".into();
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use telic_seed::Rng;

    use super::*;

    /// Draws one number; panics at batch `fail_at`.
    struct Numbers {
        drawn: usize,
        fail_at: usize,
    }

    impl BatchSampler<Vec<u64>> for Numbers {
        fn new_batch(&self) -> Vec<u64> {
            Vec::with_capacity(1)
        }

        fn sample(&mut self, rng: &mut Rng, batch: &mut Vec<u64>) {
            assert!(self.drawn < self.fail_at, "row 7 is broken");
            self.drawn += 1;
            batch.clear();
            batch.push(rng.random());
        }
    }

    fn read(first: u64, ahead: usize, count: usize) -> Vec<u64> {
        let sampler = Box::new(Numbers {
            drawn: 0,
            fail_at: usize::MAX,
        });
        let mut reader =
            BatchReader::new(sampler, Seed::new(3).child("batches"), first, ahead).unwrap();
        let mut numbers = vec![];
        for _ in 0..count {
            let batch = reader.next_batch().unwrap();
            numbers.push(batch[0]);
            reader.recycle(batch);
        }
        numbers
    }

    #[test]
    fn reading_ahead_and_starting_late_change_no_batch() {
        let numbers = read(0, 0, 20);
        assert_eq!(read(0, 1, 20), numbers);
        assert_eq!(read(0, 4, 20), numbers);
        assert_eq!(read(13, 3, 7), numbers[13..]);
        assert_eq!(
            numbers
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            20
        );
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_with_its_message() {
        let sampler = Box::new(Numbers {
            drawn: 0,
            fail_at: 2,
        });
        let mut reader = BatchReader::new(sampler, Seed::new(3), 10, 1).unwrap();
        for _ in 0..2 {
            let batch = reader.next_batch().unwrap();
            reader.recycle(batch);
        }
        assert_eq!(
            reader.next_batch().unwrap_err().to_string(),
            "the thread that samples batches stopped before batch 12: row 7 is broken"
        );
    }
}
