//! srun: one process a task of a step. A batch script's own shell has no step's node list and is no process of a run.

use trommel_cluster::ClusterConfig;

use super::LaunchError;
use super::variables::{Found, Variables, port};
use crate::wrong_value::WrongValue;

/// More names than this are no node list but a slip of the keyboard.
const MOST_NODES: usize = 1 << 16;

/// This task's place; `None`: no step, or a step of one task.
///
/// # Errors
/// Variables that make no sense.
pub fn find(variables: &Variables) -> Result<Option<Found>, LaunchError> {
    let Some(list) = variables.text("SLURM_STEP_NODELIST") else { return Ok(None) };
    let Some(process) = variables.number::<usize>("SLURM_PROCID")? else { return Ok(None) };
    // Inside an allocation, SLURM_NTASKS may be the job's and not the step's.
    let tasks = variables.number::<usize>("SLURM_STEP_NUM_TASKS")?;
    let tasks = if tasks.is_some() { tasks } else { variables.number("SLURM_NTASKS")? };
    let Some(processes) = tasks.filter(|tasks| *tasks > 1) else { return Ok(None) };
    let nodes = expand(list).map_err(|problem| variables.wrong("SLURM_STEP_NODELIST", problem))?;
    let missing = |name| LaunchError::Missing { name, beside: "SLURM_STEP_NODELIST" };
    let job = variables.text("SLURM_JOB_ID").ok_or_else(|| missing("SLURM_JOB_ID"))?;
    let step = variables.text("SLURM_STEP_ID").ok_or_else(|| missing("SLURM_STEP_ID"))?;
    let port = port(variables, &format!("{job}.{step}"))?;
    let requeued = variables.text("SLURM_RESTART_COUNT").unwrap_or("0");
    let run_id = format!("slurm-{job}.{step}.{requeued}");
    let config = ClusterConfig::new(processes, process, &format!("{}:{port}", nodes[0]), &run_id);
    let local_process = variables.number("SLURM_LOCALID")?.unwrap_or(0);
    let local_processes = tasks_here(variables, processes, nodes.len())?.max(local_process + 1);
    // srun binds a task to cores of its own where it was told how many it may have.
    let own_cores = variables.number::<usize>("SLURM_CPUS_PER_TASK")?.filter(|cores| *cores > 0);
    // So it does with GPUs, and does not say so in a way that holds everywhere.
    Ok(Some(Found { local_processes, local_process, own_cores, own_gpus: true, ..Found::new(config) }))
}

/// Tasks of the step on this node.
fn tasks_here(variables: &Variables, tasks: usize, nodes: usize) -> Result<usize, LaunchError> {
    const LIST: &str = "SLURM_STEP_TASKS_PER_NODE";
    if let (Some(list), Some(node)) = (variables.text(LIST), variables.number::<usize>("SLURM_NODEID")?) {
        let counts = per_node(list).ok_or_else(|| variables.wrong(LIST, "write it like 2(x3),1"))?;
        if let Some(count) = counts.get(node) {
            return Ok(*count);
        }
    }
    Ok(variables.number("SLURM_NTASKS_PER_NODE")?.unwrap_or(tasks.div_ceil(nodes)))
}

/// `2(x3),1` is 2, 2, 2, 1.
fn per_node(list: &str) -> Option<Vec<usize>> {
    let mut counts = Vec::new();
    for item in list.split(',') {
        let (count, times) = match item.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (item, 1),
        };
        if counts.len() + times > MOST_NODES {
            return None;
        }
        counts.extend(std::iter::repeat_n(count.trim().parse::<usize>().ok()?, times));
    }
    Some(counts)
}

/// `gpu[01-03,7],login1` is gpu01, gpu02, gpu03, gpu7, login1. Several brackets in a name are multiplied out.
pub fn expand(list: &str) -> Result<Vec<String>, WrongValue> {
    let mut names = Vec::new();
    for word in split_outside(list)? {
        let mut partial = vec![String::new()];
        let mut rest = word;
        while let Some(open) = rest.find('[') {
            let close = rest[open..].find(']').ok_or("a bracket is not closed")? + open;
            let numbers = ranges(&rest[open + 1..close])?;
            if names.len() + partial.len() * numbers.len() > MOST_NODES {
                return Err(format!("more than {MOST_NODES} names").into());
            }
            let longer = |begin: &String| {
                let begin = format!("{begin}{}", &rest[..open]);
                numbers.iter().map(move |number| format!("{begin}{number}")).collect::<Vec<_>>()
            };
            partial = partial.iter().flat_map(longer).collect();
            rest = &rest[close + 1..];
        }
        if rest.contains(']') {
            return Err("a bracket is closed that was not opened".into());
        }
        names.extend(partial.into_iter().map(|begin| begin + rest));
    }
    if names.iter().any(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        return Err("a name is empty or has a space in it".into());
    }
    Ok(names)
}

/// Words between commas that stand in no bracket.
fn split_outside(list: &str) -> Result<Vec<&str>, WrongValue> {
    let (mut words, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, character) in list.char_indices() {
        match (character, inside) {
            ('[', true) => return Err("a bracket inside a bracket".into()),
            ('[', false) => inside = true,
            (']', _) => inside = false,
            (',', false) => {
                words.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    words.push(&list[begin..]);
    Ok(words)
}

/// `01-03,7`: as wide as the first number of the range is written.
fn ranges(text: &str) -> Result<Vec<String>, WrongValue> {
    let mut numbers = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let is_number = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(first) || !is_number(last) {
            return Err(format!("`{range}` is no range of numbers").into());
        }
        let value = |text: &str| text.parse::<usize>().map_err(|error| WrongValue::from(error.to_string()));
        let (from, to) = (value(first)?, value(last)?);
        if from > to {
            return Err(format!("`{range}` runs backwards").into());
        }
        if numbers.len() + (to - from) >= MOST_NODES {
            return Err(format!("more than {MOST_NODES} names").into());
        }
        numbers.extend((from..=to).map(|number| format!("{number:0width$}", width = first.len())));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::super::variables::tests::variables;
    use super::*;

    #[test]
    fn node_lists() {
        for (list, names) in [
            ("login1", "login1"),
            ("a,b", "a b"),
            ("gpu[01-03,7],login1", "gpu01 gpu02 gpu03 gpu7 login1"),
            ("n[8-11]", "n8 n9 n10 n11"),
            ("n[098-101]", "n098 n099 n100 n101"),
            ("r[0-1]n[1,3]", "r0n1 r0n3 r1n1 r1n3"),
            ("c[1-2]-ib", "c1-ib c2-ib"),
            ("a-b-1", "a-b-1"),
        ] {
            assert_eq!(expand(list).expect(list).join(" "), names, "{list}");
        }
        for bad in
            ["", "a,", "n[1-2", "n1]", "n[]", "n[2-1]", "n[1-]", "n[a-b]", "n[[1]]", "n[1-9999999]", "n[1-2]n[1-60000]"]
        {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tasks_per_node() {
        assert_eq!(per_node("2(x3),1"), Some(vec![2, 2, 2, 1]));
        assert_eq!(per_node("4"), Some(vec![4]));
        for bad in ["", "2(x", "2(x3", "x", "2(x99999999)"] {
            assert_eq!(per_node(bad), None, "{bad}");
        }
    }

    const STEP: &str = "SLURM_STEP_NODELIST=gpu[01-02] SLURM_JOB_ID=812 SLURM_STEP_ID=3 SLURM_NTASKS=8";

    #[test]
    fn a_task_of_a_step() {
        let text = format!("{STEP} SLURM_PROCID=5 SLURM_LOCALID=1 SLURM_NODEID=1 SLURM_STEP_TASKS_PER_NODE=4(x2)");
        let found = find(&variables(&text)).expect("fine").expect("a task");
        assert_eq!((found.config.processes, found.config.process), (8, 5));
        assert_eq!((found.local_processes, found.local_process, found.own_cores), (4, 1, None));
        assert!(found.own_gpus);
        assert_eq!(found.config.run_id, "slurm-812.3.0");
        assert!(found.config.coordinator.starts_with("gpu01:2"), "{}", found.config.coordinator);
        let neighbour = find(&variables(&text.replace("PROCID=5", "PROCID=0"))).expect("fine").expect("a task");
        assert_eq!(neighbour.config.coordinator, found.config.coordinator);
        let with = |more: &str| find(&variables(&format!("{text} {more}"))).expect("fine").expect("a task");
        assert_eq!(with("SLURM_RESTART_COUNT=2").config.run_id, "slurm-812.3.2");
        assert_eq!(with("SLURM_CPUS_PER_TASK=6").own_cores, Some(6));
        assert_eq!(with("TROMMEL_PORT=4321").config.coordinator, "gpu01:4321");
        assert_eq!(with("SLURM_STEP_NUM_TASKS=6").config.processes, 6);
    }

    #[test]
    fn what_is_no_task_of_several() {
        for alone in [
            "SLURM_JOB_ID=812 SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_NODELIST=gpu[01-02]", // the batch script itself
            "SLURM_STEP_NODELIST=gpu01 SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=1",
            "SLURM_STEP_NODELIST=gpu01 SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=1",
        ] {
            assert_eq!(find(&variables(alone)), Ok(None), "{alone}");
        }
        assert!(find(&variables(&format!("{STEP} SLURM_PROCID=x"))).is_err());
        let without_step = STEP.replace("SLURM_STEP_ID=3", "");
        let line = find(&variables(&format!("{without_step} SLURM_PROCID=1"))).expect_err("no step").to_string();
        assert!(line.contains("SLURM_STEP_ID is not"), "{line}");
    }
}
