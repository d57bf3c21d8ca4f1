//! A disk in memory that forgets: for tests that stop the ledger between any two steps.
//!
//! Every call of [`Storage`] or [`Output`] that changes something is a numbered step. A disk can be told to die at a
//! step (before it, or in the middle of a write), to be full at one, and to crash: what was not synced is then kept,
//! forgotten, or kept in part.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use trommel_columnar::ReadSeek;
use trommel_core::wake::locked;
use trommel_ledger::storage::{Lock, LockKind, Output, Storage, parent};

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All: the program was killed, the machine goes on.
    KeepAll,
    /// Nothing: the machine lost its power.
    ForgetAll,
    /// Some, by a seed: each name may or may not be there, each file may be cut anywhere behind what was synced.
    KeepSome(u64),
}

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program dies before the step.
    Die,
    /// The program dies in the middle of the step: half of a write's bytes are there. Other steps: as [`Fault::Die`].
    DieHalfway,
    /// The disk is full from here on; a write leaves half of its bytes.
    Full,
    /// Nothing may be written from here on.
    ReadOnly,
}

#[derive(Clone, Debug, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    locks: BTreeMap<PathBuf, (LockKind, usize)>,
    steps: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    /// As between two file systems.
    no_links: bool,
    /// Counts crashes: what was opened before one is of no use after it.
    life: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
}

enum Way {
    Whole,
    Half(io::Error),
}

impl State {
    fn step(&mut self, full_matters: bool) -> io::Result<Way> {
        if self.dead {
            return Err(io::Error::other("the program is dead"));
        }
        let step = self.steps;
        self.steps += 1;
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        match self.fault {
            Some((at, Fault::Die)) if step == at => {
                self.dead = true;
                Err(io::Error::other("the program dies here"))
            }
            Some((at, Fault::DieHalfway)) if step == at => {
                self.dead = true;
                Ok(Way::Half(io::Error::other("the program dies here")))
            }
            Some((at, Fault::Full)) if step == at && full_matters => Ok(Way::Half(full())),
            Some((at, Fault::Full)) if step > at && full_matters => Err(full()),
            Some((at, Fault::ReadOnly)) if step >= at => Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)),
            _ => Ok(Way::Whole),
        }
    }

    fn simple_step(&mut self, full_matters: bool) -> io::Result<()> {
        match self.step(full_matters)? {
            Way::Whole => Ok(()),
            Way::Half(e) => Err(e),
        }
    }

    fn node(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn add(&mut self, path: &Path) -> usize {
        self.nodes.push(Node::default());
        self.names.insert(path.to_path_buf(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }
}

impl Simulated {
    /// A simulated disk without files.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.state);
        state.calls += 1;
        state
    }

    /// Calls made so far, also those that change nothing.
    pub fn calls(&self) -> u64 {
        locked(&self.state).calls
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Sets what happens at a step; `None` heals the disk.
    pub fn fail_at(&self, fault: Option<(u64, Fault)>) {
        self.state().fault = fault;
    }

    /// From now on no file gets a second name.
    pub fn refuse_links(&self) {
        self.state().no_links = true;
    }

    /// Ends the program's life: locks are free, what was not synced meets its fate, and a new life begins.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state();
        let state = &mut *state;
        let mut random = if let Crash::KeepSome(seed) = crash { seed } else { 0 };
        let mut roll = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        match crash {
            Crash::KeepAll => {}
            Crash::ForgetAll => {
                state.names = state.durable_names.clone();
                state.nodes.iter_mut().for_each(|n| n.live = n.durable.clone());
            }
            Crash::KeepSome(_) => {
                let all: BTreeSet<PathBuf> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
                let mut names = BTreeMap::new();
                for path in all {
                    let side = if roll() % 2 == 0 { &state.names } else { &state.durable_names };
                    if let Some(&node) = side.get(&path) {
                        names.insert(path, node);
                    }
                }
                state.names = names;
                for node in &mut state.nodes {
                    if node.live.starts_with(&node.durable) {
                        let more = (node.live.len() - node.durable.len()) as u64;
                        let keep = node.durable.len() + (roll() % (more + 1)) as usize;
                        node.live.truncate(keep);
                    } else {
                        node.live = node.durable.clone();
                    }
                }
            }
        }
        state.nodes.iter_mut().for_each(|n| n.durable = n.live.clone());
        state.durable_names = state.names.clone();
        state.locks.clear();
        state.fault = None;
        state.dead = false;
        state.life += 1;
    }

    /// All files with their bytes, by path.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(path, &node)| (path.clone(), state.nodes[node].live.clone())).collect()
    }

    /// Puts a file there, durable.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let node = state.add(path);
        state.nodes[node] = Node { live: bytes.to_vec(), durable: bytes.to_vec() };
        state.durable_names.insert(path.to_path_buf(), node);
    }
}

struct SimulatedFile {
    disk: Simulated,
    node: usize,
    life: u64,
}

impl SimulatedFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("opened before the crash")) }
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        match state.step(true)? {
            Way::Whole => {
                state.nodes[self.node].live.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Way::Half(error) => {
                state.nodes[self.node].live.extend_from_slice(&bytes[..bytes.len() / 2]);
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for SimulatedFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state()?;
        state.simple_step(true)?;
        let node = &mut state.nodes[self.node];
        node.durable = node.live.clone();
        Ok(())
    }
}

struct SimulatedLock {
    disk: Simulated,
    path: PathBuf,
    life: u64,
}

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life
            && let Some((_, holders)) = state.locks.get_mut(&self.path)
        {
            *holders -= 1;
            if *holders == 0 {
                state.locks.remove(&self.path);
            }
        }
    }
}

impl Simulated {
    fn file(&self, state: &State, node: usize) -> Box<dyn Output> {
        Box::new(SimulatedFile { disk: self.clone(), node, life: state.life })
    }
}

impl Storage for Simulated {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.folders.contains(path) {
            state.simple_step(true)?;
            // Folders survive: that a lost folder is made again is shown by every first step.
            state.folders.insert(path.to_path_buf());
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        state.simple_step(true)?;
        let node = state.add(path);
        Ok(self.file(&state, node))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.simple_step(true)?;
        let node = state.add(path);
        Ok(self.file(&state, node))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let state = self.state();
        let node = state.node(path)?;
        Ok(self.file(&state, node))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.simple_step(false)?;
        let node = state.node(path)?;
        let node = &mut state.nodes[node];
        node.live.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        node.durable = node.live.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.simple_step(true)?;
        let node = state.node(from)?;
        state.names.remove(from);
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.simple_step(true)?;
        if state.no_links {
            return Err(io::Error::from(io::ErrorKind::CrossesDevices));
        }
        if state.names.contains_key(to) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let node = state.node(from)?;
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.simple_step(false)?;
        state.node(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.simple_step(false)?;
        let state = &mut *state;
        state.durable_names.retain(|name, _| parent(name) != path);
        let here = state.names.iter().filter(|(name, _)| parent(name) == path);
        state.durable_names.extend(here.map(|(name, &node)| (name.clone(), node)));
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.nodes[state.node(path)?].live.clone())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(Cursor::new(self.read(path)?)))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.nodes[state.node(path)?].live.len() as u64)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.names.keys().filter(|name| parent(name) == path);
        Ok(here.filter_map(|name| Some(name.file_name()?.to_str()?.to_string())).collect())
    }

    fn try_lock(&self, path: &Path, kind: LockKind) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.state();
        if state.dead {
            return Err(io::Error::other("the program is dead"));
        }
        if !state.names.contains_key(path) {
            state.simple_step(true)?;
            state.add(path);
        }
        let (held, holders) = state.locks.get(path).copied().unwrap_or((kind, 0));
        if holders > 0 && (held == LockKind::Exclusive || kind == LockKind::Exclusive) {
            return Ok(None);
        }
        state.locks.insert(path.to_path_buf(), (kind, holders + 1));
        Ok(Some(Box::new(SimulatedLock { disk: self.clone(), path: path.to_path_buf(), life: state.life })))
    }
}
