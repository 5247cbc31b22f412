//! The words that conditions and Events give as reasons. `docs/troubleshooting.md` has a row for each: what it
//! means, and what to do. Words of `Invalid`, `ApplyFailure` and of the license proxy are theirs.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = $word;)*
        /// Every reason that a status can give of itself, for the manual's test.
        pub const REASONS: &[&str] = &[$($word),*];
    };
}

reasons! {
    // All is well, or on the way.
    SERVING = "Serving";
    SERVING_PREVIOUS_SPEC = "ServingPreviousSpec";
    PARTLY_SERVING = "PartlyServing";
    ROLLING_OUT = "RollingOut";
    COMPLETE = "Complete";
    HEALTHY = "Healthy";
    SCALED_TO_ZERO = "ScaledToZero";
    WAKING = "Waking";
    REPLICAS_ZERO = "ReplicasZero";
    NOT_CREATED = "NotCreated";
    NOT_YET_SERVED = "NotYetServed";
    LOAD_BALANCER_PENDING = "LoadBalancerPending";

    // Pods that are not placed, or do not start.
    POD_STARTING = "PodStarting";
    PODS_MISSING = "PodsMissing";
    UNSCHEDULABLE = "Unschedulable";
    SCHEDULING_GATED = "SchedulingGated";
    VOLUME_CLAIM_PENDING = "VolumeClaimPending";
    VOLUME_CLAIM_MISSING = "VolumeClaimMissing";
    VOLUME_NOT_MOUNTED = "VolumeNotMounted";
    REPLICA_FAILURE = "ReplicaFailure";
    POD_SECURITY_VIOLATION = "PodSecurityViolation";
    POD_FAILED = "PodFailed";
    NODE_NOT_READY = "NodeNotReady";
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded";

    // Containers that do not start, or do not stay.
    IMAGE_PULL_FAILED = "ImagePullFailed";
    IMAGE_NAME_INVALID = "ImageNameInvalid";
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid";
    CONTAINER_START_FAILED = "ContainerStartFailed";
    OOM_KILLED = "OOMKilled";
    CRASH_LOOP = "CrashLoop";
    PROBE_FAILING = "ProbeFailing";
    SECRET_MISSING = "SecretMissing";
    SECRET_KEY_MISSING = "SecretKeyMissing";

    // Models.
    MODEL_WAITING = "ModelWaiting";
    MODEL_DOWNLOADING = "ModelDownloading";
    MODEL_LOADING = "ModelLoading";
    MODEL_WARMING_UP = "ModelWarmingUp";
    MODEL_ROLLING = "ModelRolling";
    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed";
    MODEL_DIGEST_MISMATCH = "ModelDigestMismatch";
    MODEL_NOT_FOUND = "ModelNotFound";
    MODEL_CACHE_NOT_WRITABLE = "ModelCacheNotWritable";
    MODEL_LOAD_FAILED = "ModelLoadFailed";

    // The queue.
    REACHABLE = "Reachable";
    REDIS_UNREACHABLE = "RedisUnreachable";
    QUEUE_NOT_READ = "QueueNotRead";

    // The license. What the license proxies refuse for has words of its own, all beginning with `License`.
    VALID = "Valid";
    GRACE_PERIOD = "GracePeriod";
    LICENSE_EXPIRING = "LicenseExpiring";
    LICENSE_NOT_REPORTED = "LicenseNotReported";
    LICENSE_REFUSED = "LicenseRefused";

    // Scaling.
    SCALING_ACTIVE = "ScalingActive";
    SCALING_LIMITED = "ScalingLimited";
    AUTOSCALER_STARTING = "AutoscalerStarting";
    METRIC_UNAVAILABLE = "MetricUnavailable";
    SCALE_TARGET_UNREACHABLE = "ScaleTargetUnreachable";
    SCALED = "Scaled";
}

/// Reasons of what goes its normal way: no Event warns of them.
const CALM: [&str; 24] = [
    SERVING,
    SERVING_PREVIOUS_SPEC,
    PARTLY_SERVING,
    ROLLING_OUT,
    COMPLETE,
    HEALTHY,
    SCALED_TO_ZERO,
    WAKING,
    REPLICAS_ZERO,
    NOT_CREATED,
    LOAD_BALANCER_PENDING,
    POD_STARTING,
    PODS_MISSING,
    SCHEDULING_GATED,
    MODEL_WAITING,
    MODEL_DOWNLOADING,
    MODEL_LOADING,
    MODEL_WARMING_UP,
    MODEL_ROLLING,
    REACHABLE,
    QUEUE_NOT_READ,
    VALID,
    LICENSE_NOT_REPORTED,
    AUTOSCALER_STARTING,
];

/// It goes its normal way.
pub(super) fn calm(reason: &str) -> bool {
    CALM.contains(&reason)
}
