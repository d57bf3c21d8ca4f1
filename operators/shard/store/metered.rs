//! Bytes from a store, counted, held to what was announced, and gone on with where they broke off.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use trommel_core::causes::Causes;
use trommel_core::wake::locked;

use super::{ByteSource, Patience, Store, StoreError, shown};

/// What was read through a [`Metered`] reader, and whether the store failed it.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Meter {
    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the store stopped delivering; `None` while it is the data's own doing.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        locked(&self.failure).clone()
    }

    /// Takes what follows for something that could not be had, and not for the data's own doing.
    pub(crate) fn fail(&self, why: String) {
        locked(&self.failure).get_or_insert(why);
    }
}

/// Counts bytes, remembers the store's own failures, and takes an end before the announced size for one. What fails is tried again from
/// the byte that was reached.
pub struct Metered {
    inner: Box<dyn Read + Send>,
    announced: Option<u64>,
    meter: Arc<Meter>,
    again: Option<Again>,
}

/// What reading is begun again with.
struct Again {
    source: Box<dyn ByteSource>,
    url: String,
    tries: Tries,
}

/// Tries since the last byte came.
struct Tries {
    patience: Patience,
    tried: u32,
    in_vain: Option<Arc<AtomicBool>>,
}

impl Tries {
    /// Waits for the next try; `false` when there is none left.
    fn wait(&mut self) -> bool {
        let in_vain = self.in_vain.as_ref();
        let goes_on = self.tried < self.patience.tries
            && (self.tried > 0 || !in_vain.is_some_and(|in_vain| in_vain.load(Ordering::Relaxed)));
        if !goes_on && self.tried > 0 {
            in_vain.inspect(|in_vain| in_vain.store(true, Ordering::Relaxed));
        }
        if goes_on {
            std::thread::sleep(self.patience.first_wait * 2u32.saturating_pow(self.tried));
            self.tried += 1;
        }
        goes_on
    }

    /// A byte has come: all tries are left again.
    fn begin_anew(&mut self) {
        self.tried = 0;
        if let Some(in_vain) = self.in_vain.as_ref().filter(|in_vain| in_vain.load(Ordering::Relaxed)) {
            in_vain.store(false, Ordering::Relaxed);
        }
    }

    /// What `open` gives, or the error of the last try.
    fn until_open<T>(&mut self, open: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        loop {
            match open() {
                Err(error) if error.may_pass() && self.wait() => {}
                done => return done,
            }
        }
    }
}

impl Metered {
    /// Meters `inner`, from which `announced` bytes are to come, once.
    #[must_use]
    pub fn new(inner: Box<dyn Read + Send>, announced: Option<u64>) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Self { inner, announced, meter: meter.clone(), again: None }, meter)
    }

    /// Opens what is behind `url` at its first byte.
    ///
    /// # Errors
    /// When it cannot be had, though it was tried as often as the store has patience.
    pub fn open(store: &dyn Store, url: &str) -> Result<(Self, Arc<Meter>), StoreError> {
        let mut tries = Tries { patience: store.patience(url), tried: 0, in_vain: store.in_vain() };
        let source = tries.until_open(|| store.open(url))?;
        let inner = tries.until_open(|| source.open_at(0))?;
        let (metered, meter) = Self::new(inner, source.announced_bytes());
        Ok((Self { again: Some(Again { source, url: shown(url), tries }), ..metered }, meter))
    }

    /// How many bytes are to come, where the store announced it.
    #[must_use]
    pub const fn announced_bytes(&self) -> Option<u64> {
        self.announced
    }

    /// Goes on from the byte that was reached after a read that failed with `error`; gives back why that cannot be.
    fn go_on(&mut self, error: io::Error) -> Result<(), io::Error> {
        let byte = self.meter.bytes();
        let Some(Again { source, url, tries }) = &mut self.again else { return Err(error) };
        if !tries.wait() {
            return Err(error);
        }
        match tries.until_open(|| source.open_at(byte)) {
            Ok(inner) => {
                tracing::info!(url, byte, "{error}: reading goes on from there");
                self.inner = inner;
                Ok(())
            }
            // What can be read once only has failed by what it failed with.
            Err(StoreError::StdinOnce) => Err(error),
            Err(StoreError::Io { error: once, .. }) if once.kind() == io::ErrorKind::Unsupported => Err(error),
            Err(then) => Err(io::Error::new(error.kind(), format!("{error}; then {}", Causes(&then)))),
        }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (got, announced) = (self.meter.bytes(), self.announced.unwrap_or(0));
            let error = match self.inner.read(buffer) {
                Ok(0) if !buffer.is_empty() && got < announced => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, format!("ended after {got} of {announced} bytes"))
                }
                // Something else than what was opened comes: it would come again.
                Ok(read) if announced > 0 && got + read as u64 > announced => {
                    let why = format!("more bytes came than the {announced} announced");
                    self.meter.fail(why.clone());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                Ok(read) => {
                    self.meter.bytes.fetch_add(read as u64, Ordering::Relaxed);
                    if let Some(again) = self.again.as_mut().filter(|_| read > 0) {
                        again.tries.begin_anew();
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            if let Err(error) = self.go_on(error) {
                self.meter.fail(error.to_string());
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn each_wait_is_twice_the_one_before() {
        let first_wait = Duration::from_millis(10);
        let mut tries = Tries { patience: Patience { tries: 3, first_wait }, tried: 0, in_vain: None };
        let begun = Instant::now();
        while tries.wait() {}
        assert_eq!(tries.tried, 3);
        assert!(begun.elapsed() >= 7 * first_wait, "it slept for {:?}", begun.elapsed());
    }
}
