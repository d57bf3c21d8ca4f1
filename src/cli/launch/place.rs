//! Whose variables say where a process stands.

use super::variables::{Found, Variables};
use super::{CLUSTER_VARIABLE, LaunchError, Times, slurm, torchrun};

/// The place that the variables give: the local launcher's; else torchrun's where it marks its own; else srun's; else
/// variables as torchrun's that somebody else has set. torchrun comes before srun because srun may have started torchrun.
///
/// # Errors
/// Variables that are there and make no sense.
pub fn find(variables: &Variables) -> Result<Option<Found>, LaunchError> {
    if let Some(value) = variables.text(CLUSTER_VARIABLE) {
        if value == "off" {
            return Ok(None);
        }
        let found: Found = serde_json::from_str(value).map_err(|error| {
            variables.wrong(CLUSTER_VARIABLE, format!("{error}; only `trommel launch` sets it, and `off` is allowed"))
        })?;
        found.config.check().map_err(|error| variables.wrong(CLUSTER_VARIABLE, error.to_string()))?;
        return Ok(Some(found));
    }
    let found = if torchrun::is_its_own(variables) {
        torchrun::find(variables)?
    } else {
        match slurm::find(variables)? {
            Some(found) => Some(found),
            None => torchrun::find(variables)?,
        }
    };
    let Some(mut found) = found else { return Ok(None) };
    Times::of_variables(variables)?.put(&mut found);
    found.config.check().map_err(|error| LaunchError::Usage(error.to_string()))?;
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trommel_cluster::ClusterConfig;

    use super::super::variables::tests::variables;
    use super::*;

    const SRUN: &str = "SLURM_STEP_NODELIST=n[1-2] SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_JOB_ID=9 SLURM_STEP_ID=0";
    const TORCHRUN: &str = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=29500";

    #[test]
    fn who_wins() {
        let process = |text: &str| find(&variables(text)).map(|found| found.map(|found| found.config.process));
        assert_eq!(process(""), Ok(None));
        assert_eq!(process(SRUN), Ok(Some(1)));
        assert_eq!(process(TORCHRUN), Ok(Some(3)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN}")), Ok(Some(1)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN} TORCHELASTIC_RUN_ID=x")), Ok(Some(3)));
        assert_eq!(process(&format!("{SRUN} {TORCHRUN} TROMMEL_CLUSTER=off")), Ok(None));
        let local = Found::new(ClusterConfig::new(2, 0, "127.0.0.1:1", "r"));
        let mut all = variables(&format!("{SRUN} {TORCHRUN}"));
        all.0.insert(CLUSTER_VARIABLE.into(), serde_json::to_string(&local).expect("it is plain"));
        assert_eq!(find(&all), Ok(Some(local)));
    }

    #[test]
    fn a_place_that_is_none_is_refused_in_one_line() {
        for value in ["{}", "1", "on", r#"{"config":3}"#] {
            let line = find(&variables(&format!("TROMMEL_CLUSTER={value}"))).expect_err(value).to_string();
            assert!(line.starts_with("the variable TROMMEL_CLUSTER=") && !line.contains('\n'), "{line}");
        }
        let outside = Found::new(ClusterConfig::new(2, 2, "127.0.0.1:1", "r"));
        let mut all = Variables::default();
        all.0.insert(CLUSTER_VARIABLE.into(), serde_json::to_string(&outside).expect("it is plain"));
        assert!(find(&all).is_err());
    }

    #[test]
    fn times_come_from_variables() {
        let found =
            find(&variables(&format!("{SRUN} TROMMEL_GRACE=2.5 TROMMEL_SILENCE=1"))).expect("fine").expect("two");
        assert_eq!(found.grace, Duration::from_millis(2500));
        assert_eq!((found.config.silence.as_secs(), found.config.start_timeout.as_secs()), (1, 60));
        for bad in ["TROMMEL_GRACE=soon", "TROMMEL_SILENCE=-1", "TROMMEL_START_TIMEOUT=NaN", "TROMMEL_GRACE=0"] {
            assert!(find(&variables(&format!("{SRUN} {bad}"))).is_err(), "{bad}");
        }
    }
}
