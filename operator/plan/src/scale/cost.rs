//! Which pod goes first when replicas are removed: the emptiest. Pods × workers → annotations to write. Pure.
//!
//! A cost is what a worker holds, rounded up to a power of two: so a busy fleet is not written at every change, and an
//! idle one not at all.

use std::collections::BTreeMap;

use crate::reading::{ComponentReading, WorkerPhase};

/// Where Kubernetes looks for it.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Costs to write, by pod: those that differ from what the pods carry. `pods` are a component's pods with the cost that
/// each carries now; a pod without one counts as 0, as for Kubernetes. With a single pod nothing needs an order.
pub fn costs<'a>(
    reading: &ComponentReading,
    pods: impl IntoIterator<Item = (&'a str, Option<i32>)>,
) -> BTreeMap<&'a str, i32> {
    let pods: Vec<_> = pods.into_iter().collect();
    if pods.len() < 2 {
        return BTreeMap::new();
    }
    let mut held = BTreeMap::<&str, u32>::new();
    for worker in &reading.workers {
        // One that drains is on its way out already.
        if let (Some(pod), true) = (&worker.pod, worker.phase != WorkerPhase::Draining) {
            *held.entry(pod).or_default() += worker.active_streams + worker.active_requests;
        }
    }
    let wanted = pods.into_iter().map(|(pod, carried)| {
        let cost = rounded(held.get(pod).copied().unwrap_or(0));
        (pod, cost, carried.unwrap_or(0))
    });
    wanted.filter(|(_, cost, carried)| cost != carried).map(|(pod, cost, _)| (pod, cost)).collect()
}

fn rounded(held: u32) -> i32 {
    if held == 0 { 0 } else { held.min(1 << 20).next_power_of_two() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::testing::{at_work, worker};

    #[test]
    fn only_what_changed_enough_is_written() {
        let reading = at_work(&[worker("a", 5), worker("b", 0), worker("c", 1)]);
        for (name, pods, expected) in [
            ("new pods", vec![("a", None), ("b", None), ("c", None)], vec![("a", 8), ("c", 1)]),
            ("as it is", vec![("a", Some(8)), ("b", None), ("c", Some(1))], vec![]),
            ("a little more or less", vec![("a", Some(8)), ("b", Some(0)), ("c", Some(1))], vec![]),
            ("it emptied", vec![("a", Some(8)), ("b", Some(4)), ("c", Some(1))], vec![("b", 0)]),
            ("one pod needs no order", vec![("a", None)], vec![]),
            ("a pod without a worker", vec![("a", Some(8)), ("x", Some(2))], vec![("x", 0)]),
        ] {
            assert_eq!(costs(&reading, pods).into_iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn the_emptiest_pod_costs_least() {
        let costs: Vec<_> = [0, 1, 2, 3, 60, 100, u32::MAX].into_iter().map(rounded).collect();
        assert_eq!(costs, [0, 1, 2, 4, 64, 128, 1 << 20]);
    }
}
