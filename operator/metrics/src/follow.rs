//! Follows the `ConfigMap` in which the apiserver says who it is. IO; what it says is read in `front_proxy`.
//!
//! A configuration that cannot be read changes nothing: the last good one counts.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;

use crate::front_proxy::FrontProxy;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Follows it as long as somebody wants to know.
pub async fn follow(client: kube::Client, found: watch::Sender<Option<Arc<FrontProxy>>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut maps = watcher(maps, only).default_backoff().applied_objects().boxed();
    loop {
        let next = tokio::select! {
            next = maps.next() => next,
            () = found.closed() => return,
        };
        match next {
            Some(Ok(map)) => learn(&map, &found),
            Some(Err(error)) => {
                tracing::warn!(%error, "failed to read the apiserver's ConfigMap {NAME}; tries again");
            }
            None => return,
        }
    }
}

fn learn(map: &ConfigMap, found: &watch::Sender<Option<Arc<FrontProxy>>>) {
    match FrontProxy::parse(&map.data.clone().unwrap_or_default()) {
        Ok(front_proxy) => {
            let first = found.borrow().is_none();
            found.send_replace(Some(Arc::new(front_proxy)));
            tracing::info!(first, "the apiserver's front proxy is known");
        }
        Err(error) => tracing::error!(reason = error.reason(), %error, "what was known before counts on"),
    }
}
