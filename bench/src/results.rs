//! What was measured, by operation and runtime, and the figures made of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::peer::Cost;
use crate::stats::{median, median_deviation, quantile};

/// A runtime that fails so often at an operation is not asked again.
const PATIENCE: usize = 3;

/// One operation of one runtime.
#[derive(Default)]
pub struct Series {
    pub operation: String,
    pub seccomp: bool,
    pub peer: String,
    /// By round, so that runtimes are compared within each round.
    pub costs: BTreeMap<usize, Cost>,
    pub syscalls: Option<u64>,
    pub failures: Vec<String>,
}

/// The medians of a series. Times in microseconds.
#[derive(Clone, Copy)]
pub struct Figures {
    pub wall: f64,
    pub deviation: f64,
    pub p90: f64,
    pub cpu: f64,
    pub rss_kib: f64,
    pub faults: f64,
}

impl Series {
    pub fn figures(&self) -> Figures {
        let of = |field: fn(&Cost) -> f64| self.costs.values().map(field).collect::<Vec<_>>();
        let walls = of(|cost| cost.wall);
        Figures {
            wall: median(&walls),
            deviation: median_deviation(&walls),
            p90: quantile(&walls, 0.9),
            cpu: median(&of(|cost| cost.cpu)),
            rss_kib: median(&of(|cost| cost.rss_kib)),
            faults: median(&of(|cost| cost.faults)),
        }
    }

    /// The median, over the rounds that both took part in, of this series' wall and processor time to `base`'s.
    pub fn ratios(&self, base: &Series) -> [f64; 2] {
        let pairs: Vec<(&Cost, &Cost)> =
            self.costs.iter().filter_map(|(round, own)| Some((own, base.costs.get(round)?))).collect();
        let of = |field: fn(&Cost) -> f64| {
            median(&pairs.iter().map(|(own, base)| field(own) / field(base)).collect::<Vec<_>>())
        };
        [of(|cost| cost.wall), of(|cost| cost.cpu)]
    }

    pub fn is_hopeless(&self) -> bool {
        self.failures.len() >= PATIENCE
    }
}

/// A figure of a runtime that is no median of many, such as the smallest memory limit.
pub struct Fact {
    pub name: String,
    pub peer: String,
    pub value: Result<f64, String>,
}

#[derive(Default)]
pub struct Results {
    pub series: Vec<Series>,
    pub facts: Vec<Fact>,
}

impl Results {
    pub fn series(&mut self, operation: &str, seccomp: bool, peer: &str) -> &mut Series {
        let found = self.series.iter().position(|s| s.operation == operation && s.seccomp == seccomp && s.peer == peer);
        let at = found.unwrap_or_else(|| {
            self.series.push(Series {
                operation: operation.to_owned(),
                seccomp,
                peer: peer.to_owned(),
                ..Series::default()
            });
            self.series.len() - 1
        });
        &mut self.series[at]
    }

    pub fn find(&self, operation: &str, seccomp: bool, peer: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.operation == operation && s.seccomp == seccomp && s.peer == peer)
    }

    /// The same operation of another runtime, to compare with.
    pub fn of_peer(&self, like: &Series, peer: &str) -> Option<&Series> {
        self.find(&like.operation, like.seccomp, peer)
    }

    /// What facts there are, in the order in which they were found.
    pub fn fact_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for fact in &self.facts {
            if !names.contains(&fact.name.as_str()) {
                names.push(&fact.name);
            }
        }
        names
    }

    pub fn fact(&self, name: &str, peer: &str) -> Option<&Result<f64, String>> {
        self.facts.iter().find(|fact| fact.name == name && fact.peer == peer).map(|fact| &fact.value)
    }

    pub fn any_failure(&self) -> bool {
        self.series.iter().any(|series| !series.failures.is_empty())
            || self.facts.iter().any(|fact| fact.value.is_err())
    }

    pub fn to_json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let figures = series.figures();
            json!({
                "operation": series.operation, "seccomp": series.seccomp, "runtime": series.peer, "runs": series.costs.len(),
                "wall_us": figures.wall, "wall_mad_us": figures.deviation, "wall_p90_us": figures.p90, "cpu_us": figures.cpu,
                "peak_rss_kib": figures.rss_kib, "page_faults": figures.faults, "syscalls": series.syscalls,
                "failures": series.failures,
                "samples": series.costs.values().map(|cost| json!([cost.wall, cost.cpu])).collect::<Vec<_>>(),
            })
        });
        let facts = self.facts.iter().map(|fact| {
            json!({"name": fact.name, "runtime": fact.peer, "value": fact.value.as_ref().ok(), "failure": fact.value.as_ref().err()})
        });
        json!({"series": series.collect::<Vec<_>>(), "facts": facts.collect::<Vec<_>>()})
    }
}
