//! Two network namespaces and a wire between them that can be slow, lossy or cut.
//!
//! ```text
//!  namespace 0 ── 10.77.N.1 ════ wire ════ 10.77.N.2 ── namespace 1
//! ```
//! The wire is a pair of virtual Ethernet devices, delayed by `tc netem`; where the kernel has no netem, two tun devices and
//! threads of this test that carry every packet from one to the other, later or never. Needs root, `ip` and the kernel's
//! leave: [`Wire::plain`] and [`Wire::bad`] say why not where something is missing.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::random::Random;

/// The two namespaces; both go when it is dropped.
pub struct Wire {
    number: usize,
    relay: Option<Relay>,
}

impl Wire {
    /// A wire as the kernel makes it.
    pub fn plain() -> Result<Self, String> {
        let wire = Self::namespaces()?;
        let (near, far) = (wire.name(0), wire.name(1));
        ip(&["link", "add", "wire", "netns", &near, "type", "veth", "peer", "name", "wire", "netns", &far])?;
        wire.address_both(&["dev", "wire"])?;
        Ok(wire)
    }

    /// A wire on which every packet takes `milliseconds` and `percent` of them are lost.
    pub fn bad(milliseconds: u64, percent: u32) -> Result<Self, String> {
        let wire = Self::plain()?;
        let (delay, loss) = (format!("{milliseconds}ms"), format!("{percent}%"));
        let slow = (0..2).try_for_each(|side| {
            let name = wire.name(side);
            let tc = ["netns", "exec", &name, "tc", "qdisc", "add", "dev", "wire", "root", "netem", "delay", &delay];
            ip(&[&tc[..], &["loss", &loss]].concat())
        });
        let Err(why) = slow else { return Ok(wire) };
        eprintln!("no netem ({why}): packets are carried by this test instead");
        drop(wire);
        let mut wire = Self::namespaces()?;
        wire.relay = Some(Relay::between([wire.name(0), wire.name(1)], Duration::from_millis(milliseconds), percent)?);
        wire.address_both(&["dev", "wire"])?;
        Ok(wire)
    }

    /// The address of a side.
    pub fn address(&self, side: usize) -> String {
        format!("10.77.{}.{}", self.number, side + 1)
    }

    /// A command that runs `program` in the namespace of a side.
    pub fn command(&self, side: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(side), program]).env_remove("TROMMEL_TEST_DATA");
        command
    }

    /// From now on nothing gets through, and nobody is told.
    pub fn cut(&self) {
        match &self.relay {
            Some(relay) => relay.cut.store(true, Ordering::Relaxed),
            None => ip(&["-n", &self.name(0), "link", "set", "wire", "down"]).unwrap(),
        }
    }

    fn namespaces() -> Result<Self, String> {
        static WIRES: AtomicUsize = AtomicUsize::new(0);
        let number = (std::process::id() as usize * 7 + WIRES.fetch_add(1, Ordering::Relaxed)) % 250;
        let wire = Self { number, relay: None };
        for side in 0..2 {
            ip(&["netns", "add", &wire.name(side)])?;
            ip(&["-n", &wire.name(side), "link", "set", "lo", "up"])?;
        }
        Ok(wire)
    }

    fn name(&self, side: usize) -> String {
        format!("trommel-{}-{}-{side}", std::process::id(), self.number)
    }

    fn address_both(&self, device: &[&str]) -> Result<(), String> {
        for side in 0..2 {
            let (name, own, other) = (self.name(side), self.address(side), self.address(1 - side));
            ip(&[&["-n", &name, "addr", "add", &own, "peer", &other], device].concat())?;
            ip(&["-n", &name, "link", "set", "wire", "up"])?;
        }
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.take();
        for side in 0..2 {
            let _gone = ip(&["netns", "del", &self.name(side)]);
        }
    }
}

/// Runs `ip`; what it complains about where it fails.
fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).output().map_err(|error| format!("`ip` cannot be run: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("ip {}: {}", args.join(" "), said.lines().next().unwrap_or_default()))
}

/// Carries packets between two tun devices.
struct Relay {
    cut: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    fn between(namespaces: [String; 2], delay: Duration, loss_percent: u32) -> Result<Self, String> {
        let [near, far] = namespaces.map(|name| tun_in(&name));
        let (near, far) = (near?, far?);
        let (cut, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for (seed, mut from, mut to) in [
            (1, near.try_clone().map_err(|e| e.to_string())?, far.try_clone().map_err(|e| e.to_string())?),
            (2, far, near),
        ] {
            let (sender, packets) = mpsc::channel::<(Instant, Vec<u8>)>();
            let (cut, over) = (Arc::clone(&cut), Arc::clone(&over));
            threads.push(std::thread::spawn(move || {
                let (mut random, mut packet) = (Random::new(seed), vec![0; 65536]);
                while !over.load(Ordering::Relaxed) {
                    let Some(length) = next_packet(&mut from, &mut packet) else { continue };
                    let lost = random.below(100) < loss_percent as usize;
                    if !lost && !cut.load(Ordering::Relaxed) {
                        let _later = sender.send((Instant::now() + delay, packet[..length].to_vec()));
                    }
                }
            }));
            threads.push(std::thread::spawn(move || {
                for (due, packet) in packets {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    // A device that is going down refuses: the packet is lost, as packets are.
                    let _sent = to.write(&packet);
                }
            }));
        }
        Ok(Self { cut, over, threads })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// The next packet's length; none after a tenth of a second without one.
fn next_packet(from: &mut File, packet: &mut [u8]) -> Option<usize> {
    let mut wanted = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, and it outlives the call.
    let ready = unsafe { libc::poll(&raw mut wanted, 1, 100) };
    if ready > 0 { from.read(packet).ok() } else { None }
}

/// A tun device called `wire` in a namespace. It lives as long as the file.
fn tun_in(namespace: &str) -> Result<File, String> {
    let path = format!("/run/netns/{namespace}");
    std::thread::spawn(move || {
        let namespace = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        // SAFETY: a system call on an open file; it moves this thread only, which ends with this closure.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(format!("{path}: {}", std::io::Error::last_os_error()));
        }
        let name = CString::new("/dev/net/tun").unwrap();
        // SAFETY: the name ends with a zero byte.
        let fd = unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(format!("/dev/net/tun: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: just opened, and nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        // struct ifreq: 16 bytes of name, then the flags: IFF_TUN | IFF_NO_PI.
        let mut request = [0u8; 40];
        request[..4].copy_from_slice(b"wire");
        request[16..18].copy_from_slice(&0x1001u16.to_ne_bytes());
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        // SAFETY: the request has the size that the kernel reads and writes.
        if unsafe { libc::ioctl(fd, TUNSETIFF, request.as_mut_ptr()) } != 0 {
            return Err(format!("TUNSETIFF: {}", std::io::Error::last_os_error()));
        }
        Ok(file)
    })
    .join()
    .unwrap()
}
