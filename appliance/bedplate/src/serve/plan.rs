//! Which data core runs what: decided once, before anything is opened.

use config::{Config, PoolConfig, ReactorConfig, VolumeConfig};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// What one data core runs.
#[derive(Debug, Clone)]
pub struct CorePlan {
    /// Index among the data cores.
    pub index: usize,
    /// CPU to pin to.
    pub cpu: usize,
    /// Pools whose home this core is, with the volumes that the configuration asks for.
    pub pools: Vec<(PoolConfig, Vec<VolumeConfig>)>,
}

/// The CPUs cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A configured core does not exist or is not allowed to this process.
    #[error(
        "[reactor] cores: CPU {cpu} is not available to this process (available: {available}); \
         choose from these, or leave `cores` out"
    )]
    NotAvailable {
        /// The CPU that was asked for.
        cpu: u32,
        /// The CPUs that could be.
        available: String,
    },
    /// The operating system does not tell.
    #[error("cannot read which CPUs this process may use: {0}; set [reactor] cores")]
    Affinity(#[from] nix::Error),
}

/// Assigns pools to cores in turn; a pool and all its volumes live on one core.
pub fn plan(config: &Config) -> Result<Vec<CorePlan>, PlanError> {
    let cpus = choose(&config.reactor, &available_cpus()?)?;
    let mut plans: Vec<CorePlan> = cpus
        .iter()
        .enumerate()
        .map(|(index, &cpu)| CorePlan {
            index,
            cpu,
            pools: Vec::new(),
        })
        .collect();
    for (position, pool) in config.pools.iter().enumerate() {
        let volumes = config
            .volumes
            .iter()
            .filter(|v| v.pool == pool.name)
            .cloned()
            .collect();
        let core = position % plans.len();
        plans[core].pools.push((pool.clone(), volumes));
    }
    Ok(plans)
}

/// CPUs in this process's affinity mask: in a container these need not start at 0.
pub fn available_cpus() -> Result<Vec<usize>, PlanError> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

fn choose(reactor: &ReactorConfig, available: &[usize]) -> Result<Vec<usize>, PlanError> {
    let Some(wanted) = &reactor.cores else {
        // One CPU stays for the kernel, the management plane and everything else.
        let keep = available.len().saturating_sub(1).max(1);
        return Ok(available[available.len() - keep..].to_vec());
    };
    let known = |cpu: u32| available.contains(&(cpu as usize));
    if let Some(&cpu) = wanted.iter().find(|&&cpu| !known(cpu)) {
        let available: Vec<String> = available.iter().map(usize::to_string).collect();
        return Err(PlanError::NotAvailable {
            cpu,
            available: available.join(", "),
        });
    }
    Ok(wanted.iter().map(|&cpu| cpu as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reactor(cores: Option<Vec<u32>>) -> ReactorConfig {
        ReactorConfig {
            cores,
            ..ReactorConfig::default()
        }
    }

    #[test]
    fn the_default_leaves_one_cpu_and_never_none() {
        assert_eq!(choose(&reactor(None), &[4, 5, 6]).unwrap(), [5, 6]);
        assert_eq!(choose(&reactor(None), &[3]).unwrap(), [3]);
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused_by_name() {
        let error = choose(&reactor(Some(vec![4, 9])), &[4, 5])
            .unwrap_err()
            .to_string();
        assert!(error.contains("CPU 9") && error.contains("4, 5"), "{error}");
    }

    #[test]
    fn pools_go_round_the_cores() {
        let pool = |name: &str| format!("[[pool]]\nname='{name}'\npath='{name}'\nsize='1GiB'\n");
        let text = format!("{}{}{}", pool("a"), pool("b"), pool("c"));
        let mut config = Config::parse(&text, "t").unwrap();
        let cpus = available_cpus().unwrap();
        config.reactor.cores = Some(cpus.iter().take(2).map(|&c| c as u32).collect());
        let plans = plan(&config).unwrap();
        let names = |p: &CorePlan| -> Vec<String> {
            p.pools
                .iter()
                .map(|(pool, _)| pool.name.to_string())
                .collect()
        };
        match plans.as_slice() {
            [first, second] => {
                assert_eq!(names(first), ["a", "c"]);
                assert_eq!(names(second), ["b"]);
            }
            [only] => assert_eq!(names(only), ["a", "b", "c"]),
            other => panic!("{other:?}"),
        }
    }
}
