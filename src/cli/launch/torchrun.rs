//! torchrun's variables, also where another program sets them (Kubeflow, a script).

use trommel_cluster::ClusterConfig;

use super::LaunchError;
use super::variables::{Found, Variables, port};

/// Whether torchrun itself has started this process.
pub fn is_its_own(variables: &Variables) -> bool {
    variables.text("TORCHELASTIC_RUN_ID").is_some()
}

/// This worker's place; `None`: there is no rank, or only one.
///
/// # Errors
/// Variables that make no sense.
pub fn find(variables: &Variables) -> Result<Option<Found>, LaunchError> {
    let (Some(process), Some(processes)) = (variables.number("RANK")?, variables.number::<usize>("WORLD_SIZE")?) else {
        return Ok(None);
    };
    if processes < 2 {
        return Ok(None);
    }
    let missing = |name| LaunchError::Missing { name, beside: "RANK" };
    let host = variables.text("MASTER_ADDR").ok_or_else(|| missing("MASTER_ADDR"))?;
    let master_port: u16 = variables.number("MASTER_PORT")?.ok_or_else(|| missing("MASTER_PORT"))?;
    let run = variables.text("TORCHELASTIC_RUN_ID").unwrap_or("none");
    // After a failure torchrun starts all workers again: what is left of the last round is a stranger.
    let round = variables.text("TORCHELASTIC_RESTART_COUNT").unwrap_or("0");
    // torchrun's own store listens on MASTER_PORT.
    let port = if is_its_own(variables) || variables.text("TROMMEL_PORT").is_some() {
        port(variables, &format!("{master_port}.{run}"))?
    } else {
        master_port
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let run_id = format!("torchrun-{run}.{master_port}.{round}");
    let config = ClusterConfig::new(processes, process, &format!("{host}:{port}"), &run_id);
    let local_process = variables.number("LOCAL_RANK")?.unwrap_or(0);
    let local_processes = variables.number("LOCAL_WORLD_SIZE")?.unwrap_or(1).max(local_process + 1);
    Ok(Some(Found { local_processes, local_process, ..Found::new(config) }))
}

#[cfg(test)]
mod tests {
    use super::super::variables::tests::variables;
    use super::*;

    const BY_HAND: &str = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=head MASTER_PORT=29500";

    #[test]
    fn by_hand_the_masters_port_is_ours() {
        let found = find(&variables(BY_HAND)).expect("fine").expect("a worker");
        assert_eq!((found.config.processes, found.config.process), (8, 5));
        assert_eq!((found.local_processes, found.local_process), (4, 1));
        assert_eq!(found.config.coordinator, "head:29500");
        let port = find(&variables(&format!("{BY_HAND} TROMMEL_PORT=7000"))).expect("fine").expect("a worker");
        assert_eq!(port.config.coordinator, "head:7000");
        let v6 = find(&variables(&BY_HAND.replace("head", "fd00::1"))).expect("fine").expect("a worker");
        assert_eq!(v6.config.coordinator, "[fd00::1]:29500");
    }

    #[test]
    fn under_torchrun_the_masters_port_is_torchruns() {
        let of = |text: &str| find(&variables(text)).expect("fine").expect("a worker").config;
        let text = format!("{BY_HAND} TORCHELASTIC_RUN_ID=j TORCHELASTIC_RESTART_COUNT=0");
        let first = of(&text);
        assert!(!first.coordinator.ends_with(":29500"), "{}", first.coordinator);
        assert_eq!(of(&text.replace("RANK=5", "RANK=0")).coordinator, first.coordinator);
        let again = of(&text.replace("COUNT=0", "COUNT=1"));
        assert_eq!(again.coordinator, first.coordinator);
        assert_ne!(again.run_id, first.run_id);
    }

    #[test]
    fn what_is_no_worker_of_several() {
        for alone in ["", "RANK=0", "WORLD_SIZE=4", "RANK=0 WORLD_SIZE=1 MASTER_ADDR=a MASTER_PORT=1"] {
            assert_eq!(find(&variables(alone)), Ok(None), "{alone}");
        }
        for bad in ["RANK=0 WORLD_SIZE=2", "RANK=x WORLD_SIZE=2", "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=x"] {
            assert!(find(&variables(bad)).is_err(), "{bad}");
        }
    }
}
