//! Processes that meet once more, and one that comes too early: every process here is a thread.
#![allow(clippy::print_stdout)]

use std::net::UdpSocket;
use std::thread;

use super::*;

fn leave(error: PipelineError) -> ! {
    panic!("{}", error.line())
}

/// Where process `process` stands; process 0 is found at `coordinator`.
fn place(processes: usize, process: usize, coordinator: &str, ending: &Arc<Ending>) -> ClusterSeat {
    let config = ClusterConfig {
        start_timeout: Duration::from_secs(20),
        silence: Duration::from_secs(60),
        ..ClusterConfig::new(processes, process, coordinator, "test")
    };
    let listener = Arc::default();
    ClusterSeat { config, listener, local_processes: 1, grace: GRACE, nccl: None, ending: ending.clone() }
}

fn take(seat: ClusterSeat, listener: Option<TcpListener>) -> Result<Together, PipelineError> {
    let cluster = meet(&seat.config, listener, 1, false, &seat.ending)?;
    let entered = Some(seat.ending.enter(cluster.control()));
    let (cluster, seat) = (Some(cluster), Some(seat));
    Ok(Together { cluster, seat, part: None, grace: GRACE, _telling: Vec::new(), _entered: entered })
}

/// An address of this machine that other machines could call. Nothing is sent for it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Process 1 has found process 0 at its loopback, as on a host whose own name means that; process 2 comes from afar.
#[test]
fn they_meet_again_where_a_hosts_name_is_its_loopback() {
    let Some(own) = own_address() else {
        crate::skipped::skipped("this machine has no address but its loopback");
        return;
    };
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (near, afar) = (format!("127.0.0.1:{port}"), format!("{own}:{port}"));
    let ending = Ending::new(leave);
    let [first, mut second, third] =
        [(0, &afar), (1, &near), (2, &afar)].map(|(process, address)| place(3, process, address, &ending));
    second.config.listen = Some("0.0.0.0:0".into());
    thread::scope(|scope| {
        let run = |seat: ClusterSeat, listener| {
            scope.spawn(move || {
                let together = take(seat, listener)?;
                let again = together.beside("again", Phase::TrainerPort, 1, &Stop::new())?;
                let ranks = again.gather(Phase::Ready, again.rank())?;
                again.end(Ok(()))?;
                together.end(Ok(ranks))
            })
        };
        let threads = [run(first, Some(listener)), run(second, None), run(third, None)];
        for thread in threads {
            assert_eq!(thread.join().unwrap().map_err(|error| error.line()), Ok(vec![0, 1, 2]));
        }
    });
}

#[test]
fn who_comes_before_its_predecessor_is_missed_is_to_come_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ending = Ending::new(leave);
    let [first, second, early] = [0, 1, 1].map(|process| place(2, process, &address, &ending));
    thread::scope(|scope| {
        let other = scope.spawn(|| take(second, None).map_err(|error| error.line()).unwrap());
        let both = [take(first, Some(listener)).map_err(|error| error.line()).unwrap(), other.join().unwrap()];
        let error = take(early, None).err().unwrap();
        assert!(error.line().contains("its place is still taken"), "{}", error.line());
        assert_eq!(error.status(), 3);
        for together in both {
            scope.spawn(move || together.end(Ok(())));
        }
    });
}
