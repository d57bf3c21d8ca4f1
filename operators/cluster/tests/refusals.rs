//! Every line that a start can end with.

use super::*;

fn lines(results: Vec<Result<Process, ClusterError>>) -> Vec<String> {
    results.into_iter().map(|result| result.err().map_or_else(|| "joined".into(), |error| error.to_string())).collect()
}

/// Replaces every `127.0.0.1:PORT`.
fn without_ports(line: &str) -> String {
    let mut parts = line.split("127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + "ADDRESS" + part.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

#[test]
fn both_sides_say_what_differs() {
    type Change = fn(&mut ClusterConfig, &mut Agreement);
    let cases: [(Change, &str, &str, &str); 5] = [
        (|_, agreement| agreement.program = "2.0".into(), "program version", "1.0", "2.0"),
        (|_, agreement| agreement.workers = 4, "workers of a process", "2", "4"),
        (|_, agreement| agreement.config = "f00d".into(), "configuration", "c0ffee", "f00d"),
        (
            |_, agreement| agreement.numerics = "{\"device\":\"cuda\"}".into(),
            "numerics",
            "{\"device\":\"cpu\"}",
            "{\"device\":\"cuda\"}",
        ),
        (|config, _| config.processes = 3, "number of processes", "2", "3"),
    ];
    for (change, what, first, second) in cases {
        let results = try_start(2, false, |config, agreement| {
            if config.process == 1 {
                change(config, agreement);
            }
        });
        let lines: Vec<String> = lines(results).iter().map(|line| without_ports(line)).collect();
        assert_eq!(
            lines,
            [
                format!("process 1 (ADDRESS) is refused: {what}: {second} there, {first} here"),
                format!("process 0 (ADDRESS) refuses this process: {what}: {first} there, {second} here"),
            ]
        );
    }
}

#[test]
fn the_third_hears_why_the_start_ended() {
    let lines = lines(try_start(3, false, |config, agreement| {
        if config.process == 2 {
            thread::sleep(Duration::from_millis(300));
            agreement.program = "2.0".into();
        }
    }));
    let line = without_ports(&lines[1]);
    let why = "process 2 (ADDRESS) is refused: program version: 2.0 there, 1.0 here";
    assert_eq!(line, format!("process 0 (ADDRESS) ended at the start: {why}"));
}

#[test]
fn a_number_may_be_given_once() {
    let results = try_start(3, false, |config, _| config.process = config.process.min(1));
    let lines: Vec<String> = lines(results).iter().map(|line| without_ports(line)).collect();
    assert_eq!(
        lines[0],
        "process 1 (ADDRESS) is refused: process number twice: 1 at ADDRESS there, 1 is at ADDRESS here"
    );
    let refused =
        "process 0 (ADDRESS) refuses this process: process number twice: 1 is at ADDRESS there, 1 at ADDRESS here";
    assert!(lines[1..].iter().any(|line| line == refused), "{lines:?}");
}

#[test]
fn a_process_of_another_run_is_refused_and_the_start_goes_on() {
    let mut place = place();
    thread::scope(|scope| {
        let listener = place.listener.take();
        let first = scope.spawn(|| join(&config(2, 0, &place.address), listener, &agreement(), false));
        let older = ClusterConfig { run_id: "yesterday".into(), ..config(2, 1, &place.address) };
        let error = join(&older, None, &agreement(), false).err().unwrap();
        let line = "process 0 (ADDRESS) refuses this process: run id: test there, yesterday here";
        assert_eq!(without_ports(&error.to_string()), line);
        let second = join(&config(2, 1, &place.address), None, &agreement(), false);
        let processes = [first.join().unwrap().unwrap(), second.unwrap()];
        // Also later: it hurts nobody.
        assert!(join(&older, None, &agreement(), false).is_err());
        let late = join(&config(2, 1, &place.address), None, &agreement(), false).err().unwrap();
        let line = "process 0 (ADDRESS) refuses this process: its place is still taken: 1 is at ADDRESS there, 1 at ADDRESS here";
        assert_eq!(without_ports(&late.to_string()), line);
        let passes =
            |error: &ClusterError| matches!(error, ClusterError::Refused { difference, .. } if difference.passes());
        assert!(passes(&late) && !passes(&error));
        end(&processes);
    });
}

#[test]
fn who_is_missing_is_named_and_so_is_who_was_refused() {
    let mut place = place();
    let soon = |process| ClusterConfig { start_timeout: Duration::from_secs(2), ..config(4, process, &place.address) };
    let listener = place.listener.take();
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&soon(0), listener, &agreement(), false));
        let second = scope.spawn(|| join(&soon(1), None, &agreement(), false));
        let older = ClusterConfig { run_id: "yesterday".into(), ..soon(2) };
        assert!(join(&older, None, &agreement(), false).is_err());
        let line = "processes 2, 3 of 4 not there after 2 s (refused meanwhile: process 2 at ADDRESS: run id: yesterday there, test here)";
        assert_eq!(without_ports(&first.join().unwrap().err().unwrap().to_string()), line);
        let told = format!("process 0 (ADDRESS) ended at the start: {line}");
        assert_eq!(without_ports(&second.join().unwrap().err().unwrap().to_string()), told);
    });
}

#[test]
fn nobody_there_and_somebody_else_there() {
    let nobody = place().address; // closed again
    let soon = |address: &str| ClusterConfig { start_timeout: Duration::from_secs(1), ..config(2, 1, address) };
    let line = join(&soon(&nobody), None, &agreement(), false).err().unwrap().to_string();
    let wanted = format!("process 0 cannot be reached at {nobody} within 1 s: Connection refused (os error 111)");
    assert_eq!(line, wanted);

    let mut web = place();
    let listener = web.listener.take().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::io::Read::read(&mut stream, &mut [0; 8]).unwrap();
    });
    let line = join(&soon(&web.address), None, &agreement(), false).err().unwrap().to_string();
    assert_eq!(line, format!("what listens at {} is no Trommel process: it said \"HTTP/1.1\"", web.address));
}

#[test]
fn addresses_in_use_or_not_ours() {
    let place = place();
    let line = join(&config(2, 0, &place.address), None, &agreement(), false).err().unwrap().to_string();
    let wanted =
        format!("cannot listen on {}: the address is in use (an older run, or another program?)", place.address);
    assert_eq!(line, wanted);
    let error = join(&config(2, 0, "192.0.2.1:2101"), None, &agreement(), false).err().unwrap();
    let line = trommel_core::causes::Causes(&error).to_string();
    assert!(line.starts_with("cannot listen on 192.0.2.1:2101: "), "{line}");
    let line = join(&config(2, 2, &place.address), None, &agreement(), false).err().unwrap().to_string();
    assert_eq!(line, "cluster: process 2 of 2 does not exist");
}

#[test]
fn a_process_that_ends_while_others_start_is_named() {
    let mut place = place();
    let listener = place.listener.take();
    thread::scope(|scope| {
        let first = scope.spawn(|| join(&config(3, 0, &place.address), listener, &agreement(), false));
        // Process 1 gives up before process 2 has come.
        let own = config(3, 1, &place.address);
        let hello = super::super::handshake::Hello::new(&own, &agreement(), false);
        let stream = std::net::TcpStream::connect(&place.address).unwrap();
        super::super::handshake::greet(&stream, &hello, &own.secret, 0, "", Instant::now() + LONG).unwrap();
        drop(stream);
        let line = first.join().unwrap().err().unwrap().to_string();
        assert_eq!(without_ports(&line), "process 1 (ADDRESS) ended at the start: its connection ended");
    });
}
