//! The list of all stories, in the order in which they start.

use e2e::cluster::Cluster;
use futures::future::LocalBoxFuture;

/// A story: what a user does, and what must then be so.
pub(crate) struct Story {
    /// What is true when it passes.
    pub(crate) name: &'static str,
    /// Beside others, or with the operator for itself.
    pub(crate) way: Way,
    /// Tells it.
    pub(crate) run: for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

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
            run: |cluster| Box::pin(crate::$module::$name(cluster)),
        }
    };
}

/// All stories. Long ones start first, and those that run alone come last, so that they wait for nobody else twice.
pub(crate) fn all() -> Vec<Story> {
    vec![
        story!(Beside install::the_operator_serves_after_helm_install),
        story!(Beside quickstart::every_protocol_gets_a_transcript),
        story!(Beside at_rest::nothing_is_written_while_nothing_changes),
        story!(Beside scale_by_load::queued_work_brings_workers_and_idleness_takes_them),
        story!(Beside scale_by_schedule::a_window_wakes_keeps_awake_and_closes),
        story!(Beside scale_to_zero::the_first_request_wakes_a_sleeping_component),
        story!(Beside worker_lost::nothing_is_lost_with_a_worker),
        story!(Beside broken_children::a_condition_names_what_is_broken),
        story!(Beside hung_worker::a_failing_probe_is_told_and_mended),
        story!(Beside bad_spec::the_last_good_pods_stay),
        story!(Beside rules::every_rule_refuses_with_its_message),
        story!(Beside rolls::a_changed_spec_rolls),
        story!(Beside redis_lost::a_new_redis_is_found),
        story!(Beside network_policy::only_the_ways_of_the_service_are_open),
        story!(Beside neighbours::two_namespaces_never_share_work),
        story!(Beside gpu::pods_get_the_gpus_they_ask_for),
        story!(Beside tts::synthesis_is_planned_like_recognition),
        story!(Beside deletion::nothing_stays_but_the_model_cache),
        story!(Alone no_metric::without_a_metric_everything_stays),
        story!(Alone operator_lost::the_standby_takes_over),
        story!(Alone helm_upgrade::an_upgrade_and_a_rollback_disturb_nobody),
    ]
}
