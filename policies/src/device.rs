//! Where networks run: CPU or CUDA, and on how many threads.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use burn::backend::{Autodiff, Flex};
use serde::{Deserialize, Serialize};

use crate::PolicyError;

/// Backend of inference on the CPU.
pub type CpuBackend = Flex;

/// Backend of training on the CPU.
pub type CpuAutodiff = Autodiff<CpuBackend>;

/// Backend of inference on an NVIDIA GPU.
#[cfg(feature = "cuda")]
pub type CudaBackend = burn::backend::Cuda;

/// Backend of training on an NVIDIA GPU.
#[cfg(feature = "cuda")]
pub type CudaAutodiff = Autodiff<CudaBackend>;

/// What networks run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// All cores, or as many as `threads` says.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; the build needs the feature `cuda`.
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl FromStr for Device {
    type Err = String;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err("expected `cpu` or `cuda`".to_owned()),
        }
    }
}

impl Device {
    /// Whether this build and this machine can use the device.
    ///
    /// # Errors
    /// [`PolicyError::Device`].
    pub fn check(self) -> Result<(), PolicyError> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda => check_cuda().map_err(|reason| PolicyError::Device {
                device: self,
                reason,
            }),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn check_cuda() -> Result<(), String> {
    Err("this build has no CUDA; build with `--features cuda` or use `cpu`".to_owned())
}

#[cfg(feature = "cuda")]
fn check_cuda() -> Result<(), String> {
    use burn::tensor::Tensor;

    // The driver's own files, since the backend panics where there is no driver.
    let driver = ["/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version"];
    if cfg!(target_os = "linux")
        && !driver
            .iter()
            .any(|path| std::path::Path::new(path).exists())
    {
        return Err("this machine has no NVIDIA driver; use `cpu`".to_owned());
    }
    std::panic::catch_unwind(|| {
        let ones = Tensor::<CudaBackend, 1>::ones([2], &Default::default());
        ones.sum()
            .into_data()
            .convert::<f32>()
            .into_vec::<f32>()
            .is_ok_and(|sum| sum == [2.0])
    })
    .map_err(|_| {
        "the NVIDIA driver or GPU does not start; is the driver older than the build?".to_owned()
    })
    .and_then(|right| {
        if right {
            Ok(())
        } else {
            Err("the GPU computes 1 + 1 wrongly".to_owned())
        }
    })
}

/// Runs work on a fixed number of threads.
#[derive(Debug)]
pub struct Threads(rayon::ThreadPool);

impl Threads {
    /// The most that anything may be asked to run on.
    pub const MAX: usize = 1024;

    /// A pool for networks on a device: of this many threads on the CPU, 0 for as many as there are cores; of one elsewhere.
    ///
    /// # Errors
    /// [`PolicyError::Device`] if the system refuses to start them.
    pub fn on(device: Device, threads: usize) -> Result<Self, PolicyError> {
        Self::new(if device == Device::Cpu { threads } else { 1 })
    }

    /// A pool of this many threads; 0 for as many as there are cores.
    ///
    /// # Errors
    /// [`PolicyError::Device`] for more than [`Threads::MAX`], or if the system refuses to start them.
    pub fn new(threads: usize) -> Result<Self, PolicyError> {
        if threads > Self::MAX {
            return Err(PolicyError::Device {
                device: Device::Cpu,
                reason: format!("`threads` is {threads}; expected at most {}", Self::MAX),
            });
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("train-{index}"))
            .build()
            .map(Self)
            .map_err(|error| PolicyError::Device {
                device: Device::Cpu,
                reason: format!("cannot start {threads} threads: {error}"),
            })
    }

    /// Runs `work` so that everything parallel in it uses these threads. Not from inside of it.
    ///
    /// It runs on the first of them, and the others stay awake for it: an update is hundreds of parallel steps of a few
    /// microseconds each, and to wake a thread takes as long as one of them. Always the same thread, because allocators keep
    /// memory per thread.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let awake = Awake::new(work);
        self.0.broadcast(|context| awake.join(context.index()));
        awake.into_result()
    }
}

/// Runs `work` here; in the copy of a process that `fork` makes, where the threads of its parent are missing, on a thread of its own
/// that stays for the next work. What is parallel in `work` would else wait for the missing ones for ever.
///
/// Which process is the first is decided by the first call: it must come before any copy is made.
pub fn with_present_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static FIRST: OnceLock<u32> = OnceLock::new();
    static OWN: Mutex<Option<(u32, Arc<Threads>)>> = Mutex::new(None);
    let process = std::process::id();
    if *FIRST.get_or_init(|| process) == process {
        return work();
    }
    let threads = {
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            Some((owner, threads)) if *owner == process => Ok(Arc::clone(threads)),
            _ => Threads::new(1).map(|threads| {
                let threads = Arc::new(threads);
                // To end those of the parent would mean to speak to threads that are not here.
                std::mem::forget(own.replace((process, Arc::clone(&threads))));
                threads
            }),
        }
    };
    match threads {
        Ok(threads) => threads.run(work),
        Err(_) => work(),
    }
}

/// Runs `work` on the threads that this thread computes on, with all of them [awake](Threads::run): those of rayon for the whole
/// process, or simply here where this is one of a pool's already.
pub(crate) fn with_awake_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1 {
        return work();
    }
    let awake = Awake::new(work);
    rayon::broadcast(|context| awake.join(context.index()));
    awake.into_result()
}

/// Work for the first thread of a pool, beside which the others wait, without sleeping as long as there is something to take.
struct Awake<W, R> {
    work: Mutex<Option<W>>,
    result: Mutex<Option<R>>,
    done: AtomicBool,
}

impl<R: Send, W: FnOnce() -> R + Send> Awake<W, R> {
    fn new(work: W) -> Self {
        Self {
            work: Mutex::new(Some(work)),
            result: Mutex::new(None),
            done: AtomicBool::new(false),
        }
    }

    /// What thread `index` of the pool does.
    fn join(&self, index: usize) {
        if index > 0 {
            self.wait();
            return;
        }
        let _rest = Rest(&self.done);
        let work = self.work.lock().ok().and_then(|mut work| work.take());
        let outcome = work.map(|work| work());
        if let Ok(mut result) = self.result.lock() {
            *result = outcome;
        }
    }

    /// Takes parts of the work until it is done, or there was none to take for a while.
    ///
    /// A thread that takes a part before it comes here can come here from inside of that part, and the work would wait for the
    /// part and the part for the work.
    fn wait(&self) {
        /// Longer than most stretches of an update without parts.
        const LONGEST_REST: Duration = Duration::from_millis(1);
        let mut resting: Option<Instant> = None;
        while !self.done.load(Ordering::Relaxed) {
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                resting = None;
                continue;
            }
            if resting.get_or_insert_with(Instant::now).elapsed() > LONGEST_REST {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn into_result(self) -> R {
        let result = self.result.into_inner().ok().flatten();
        result.expect("the first thread has run the work, or its panic has passed through")
    }
}

/// Lets the helpers go, also when the work panics.
struct Rest<'a>(&'a AtomicBool);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_free_again_after_a_panic() {
        let threads = Threads::new(3).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            threads.run(|| panic!("on purpose"));
        }));
        assert!(outcome.is_err());
        let sum = threads.run(|| {
            use rayon::prelude::*;
            (0..10_000_u64).into_par_iter().sum::<u64>()
        });
        assert_eq!(sum, 49_995_000);
    }

    #[test]
    fn work_with_a_waiting_thread_inside_of_it_ends() {
        type Work = Box<dyn FnOnce() -> u64 + Send>;
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let awake: Arc<OnceLock<Awake<Work, u64>>> = Arc::default();
            let inside = Arc::clone(&awake);
            let work: Work = Box::new(move || {
                inside.get().unwrap().join(1);
                7
            });
            assert!(awake.set(Awake::new(work)).is_ok());
            let awake = awake.get().unwrap();
            awake.join(0);
            sender.send(*awake.result.lock().unwrap()).unwrap();
        });
        let result = ended.recv_timeout(Duration::from_mins(1));
        assert_eq!(result.unwrap(), Some(7));
    }

    #[test]
    fn awake_threads_are_those_of_the_process_or_of_the_pool() {
        let names = || {
            let name = || std::thread::current().name().map(str::to_owned);
            (rayon::current_num_threads(), with_awake_threads(name))
        };
        let outside = names();
        assert_eq!(outside, names(), "always the same thread");
        let inside = Threads::new(3).unwrap().run(names);
        assert_eq!(inside, (3, Some("train-0".to_owned())));
        let outcome = std::panic::catch_unwind(|| with_awake_threads(|| panic!("on purpose")));
        assert!(outcome.is_err());
        assert_eq!(with_awake_threads(|| 7), 7);
    }

    #[test]
    fn present_threads_are_those_of_the_caller() {
        let caller = std::thread::current().id();
        assert_eq!(with_present_threads(|| std::thread::current().id()), caller);
    }

    #[test]
    fn a_pool_has_as_many_threads_as_asked_for() {
        assert_eq!(Threads::new(3).unwrap().run(rayon::current_num_threads), 3);
        assert_eq!(
            Threads::new(0).unwrap().run(rayon::current_num_threads),
            rayon::current_num_threads()
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_device_is_an_error_with_the_way_out() {
        Device::Cpu.check().unwrap();
        assert_eq!(
            Device::Cuda.check().unwrap_err().to_string(),
            "cannot use device `cuda`: this build has no CUDA; build with `--features cuda` or use `cpu`"
        );
    }
}
