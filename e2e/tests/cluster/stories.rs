//! The list of all stories, in the order in which they start.

use e2e::cluster::Cluster;
use futures::future::LocalBoxFuture;
use libtest_mimic::Completion;

/// A story: what a user does, and what must then be so.
pub(crate) struct Story {
    /// What is true when it passes.
    pub(crate) name: &'static str,
    /// Beside others, or with the operator for itself.
    pub(crate) way: Way,
    /// Tells it, or says why it cannot be told in this cluster.
    pub(crate) run: for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, anyhow::Result<Completion>>,
}

/// What a story comes back with when nothing went wrong.
trait Outcome {
    fn completion(self) -> Completion;
}

impl Outcome for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

/// Of a story that some clusters cannot tell: what was not seen must not count as passed.
impl Outcome for Completion {
    fn completion(self) -> Completion {
        self
    }
}

/// The end of a story that needs what this cluster lacks. A cluster of this machine has everything: there a lack is a
/// fault.
pub(crate) fn cannot(cluster: &Cluster, lacks: &str) -> anyhow::Result<Completion> {
    anyhow::ensure!(!cluster.own, "in the throw-away cluster {lacks}");
    Ok(Completion::ignored_with(lacks))
}

/// Why a story with claims cannot be told.
pub(crate) const NO_STORAGE: &str =
    "there is no default StorageClass, so claims that name none get no volume: mark one as the default";

/// How a story runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In its own namespace, beside others.
    Beside,
    /// It stops or changes the operator, so it runs alone.
    Alone,
}

macro_rules! story {
    ($way:ident $module:ident::$name:ident) => {
        Story {
            name: concat!(stringify!($module), "::", stringify!($name)),
            way: Way::$way,
            run: |cluster| {
                Box::pin(async move { crate::$module::$name(cluster).await.map(Outcome::completion) })
            },
        }
    };
}

/// All stories. Long ones start first, the ten minutes of rest before all others, and those that run alone come last,
/// so that they wait for nobody else twice.
pub(crate) fn all() -> Vec<Story> {
    vec![
        story!(Beside at_rest::nothing_is_written_while_nothing_changes),
        story!(Beside install::the_operator_serves_after_helm_install),
        story!(Beside quickstart::every_protocol_gets_a_transcript),
        story!(Beside scale_by_load::queued_work_brings_workers_and_idleness_takes_them),
        story!(Beside scale_by_load::full_gateways_and_full_workers_bring_more),
        story!(Beside scale_in::the_emptiest_pods_go_first),
        story!(Beside scale_by_schedule::a_window_wakes_keeps_awake_and_closes),
        story!(Beside scale_to_zero::the_first_request_wakes_a_sleeping_component),
        story!(Beside worker_lost::nothing_is_lost_with_a_pod),
        story!(Beside worker_lost::nothing_is_lost_with_a_program_or_a_container),
        story!(Beside broken_children::a_condition_names_what_is_broken),
        story!(Beside hung_worker::a_failing_probe_is_told_and_mended),
        story!(Beside bad_spec::the_last_good_pods_stay),
        story!(Beside rules::every_rule_refuses_with_its_message),
        story!(Beside rolls::a_changed_spec_rolls),
        story!(Beside redis_lost::a_new_redis_is_found),
        story!(Beside redis_moves::the_redis_of_before_stays_until_nobody_needs_it),
        story!(Beside network_policy::only_the_ways_of_the_service_are_open),
        story!(Beside neighbours::two_deployments_of_one_redis_never_share_work),
        story!(Beside gpu::pods_get_the_gpus_they_ask_for),
        story!(Beside tts::synthesis_is_planned_like_recognition),
        story!(Beside deletion::nothing_stays_but_the_model_cache),
        story!(Beside helm_service::a_release_is_a_service_from_install_to_uninstall),
        story!(Beside dry_run::the_apiserver_takes_every_variant_of_the_charts),
        story!(Beside dry_run::the_apiserver_takes_every_planned_object),
        story!(Alone no_metric::without_a_metric_everything_stays),
        story!(Alone operator_lost::the_standby_takes_over),
        story!(Alone helm_upgrade::an_upgrade_and_a_rollback_disturb_nobody),
        story!(Alone helm_upgrade::without_its_operator_a_service_serves_on),
    ]
}
