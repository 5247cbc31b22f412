//! [`Invalid`]: why a deployment cannot be planned, and the word for it.

/// Replicas of one component on one machine, at most; beyond it ports would run into each other.
pub(super) const MAX_LOCAL_REPLICAS: u32 = 64;

/// Why a deployment cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A Secret is not there.
    #[error("failed to find Secret {name:?} for {field}: create it beside the resource")]
    FindSecret {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
    },
    /// A Secret lacks the key.
    #[error("failed to find key {key:?} in Secret {name:?} for {field}: it has {}", found.join(", "))]
    FindSecretKey {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The keys that are there.
        found: Vec<String>,
    },
    /// The entry is empty.
    #[error("failed to use key {key:?} of Secret {name:?} for {field}: it is empty")]
    ReadSecret {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The operator may not read a Secret.
    #[error(
        "failed to read Secret {name:?}, for lack of a right: {message}; let the operator get Secrets in this \
         namespace, as its chart's role does"
    )]
    MayNotReadSecret {
        /// Its name.
        name: String,
        /// What the apiserver said.
        message: String,
    },
    /// A Secret is there and cannot be read.
    #[error("failed to read Secret {name:?}: {message}; it is tried again")]
    FetchSecret {
        /// Its name.
        name: String,
        /// What the apiserver said.
        message: String,
    },
    /// Two programs would listen on one port.
    #[error("failed to give {second} port {port}: {first} has it; change one of them in the resource")]
    SharePort {
        /// The port.
        port: u16,
        /// Who has it.
        first: String,
        /// Who wants it.
        second: String,
    },
    /// Port numbers of the replicas end above 65535.
    #[error("failed to number the ports of {replicas} replicas of {component} from {port}: use a lower port")]
    NumberPorts {
        /// The component.
        component: &'static str,
        /// First port.
        port: u16,
        /// Replicas.
        replicas: u16,
    },
    /// More replicas than one machine gets.
    #[error(
        "failed to run {replicas} replicas of {component} on one machine: use at most {MAX_LOCAL_REPLICAS}"
    )]
    CountReplicas {
        /// The component.
        component: &'static str,
        /// Replicas.
        replicas: u32,
    },
    /// A schedule's time zone is none.
    #[error(
        "failed to find time zone {zone:?} of {component}.scaling.schedules {schedule:?}: use a name of the IANA \
         database, such as Europe/Berlin"
    )]
    FindTimeZone {
        /// The component.
        component: &'static str,
        /// Name of the schedule.
        schedule: String,
        /// The time zone.
        zone: String,
    },
    /// A schedule's time is no cron.
    #[error("failed to read {time} of {component}.scaling.schedules {schedule:?} as cron: {problem}")]
    ReadSchedule {
        /// The component.
        component: &'static str,
        /// Name of the schedule.
        schedule: String,
        /// `start` or `end`, and what it says.
        time: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A schedule's time never comes.
    #[error(
        "failed to find a day for {time} of {component}.scaling.schedules {schedule:?}: no month has it; correct \
         its day or month"
    )]
    ReachSchedule {
        /// The component.
        component: &'static str,
        /// Name of the schedule.
        schedule: String,
        /// `start` or `end`, and what it says.
        time: String,
    },
    /// One worker serves one model in this version.
    #[error(
        "failed to serve {count} models with one kind of worker: this version serves one; make another \
             SmallestDeployment for each other model"
    )]
    ServeModels {
        /// How many are asked for.
        count: usize,
    },
    /// The model's address works on one machine only.
    #[error("failed to use model address {url:?} in a cluster: a file address there is absolute, file:///…")]
    LocateModel {
        /// The address.
        url: String,
    },
    /// A certificate authority for Redis is no certificate.
    #[error(
        "failed to read key {key:?} of Secret {name:?} for redis.external.tls.caSecretRef: it is no PEM certificate"
    )]
    ReadAuthority {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// A certificate authority is named for an address without TLS.
    #[error(
        "failed to use redis.external.tls with the address in key {key:?} of Secret {name:?}: it must begin with \
         rediss://"
    )]
    SecureRedis {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// Anybody in the cluster could use the service, and nobody has said that this is meant.
    #[error(
        "failed to open the gateway without API keys: name a Secret with keys in gateway.auth.secretRef, \
         or set gateway.auth.allowAnonymous if everyone who reaches it may use it"
    )]
    OpenGateway,
}

impl Invalid {
    /// A stable word for conditions, metrics and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FindSecret { .. } => "SecretMissing",
            Self::FindSecretKey { .. } => "SecretKeyMissing",
            Self::ReadSecret { .. } => "SecretEmpty",
            Self::MayNotReadSecret { .. } => "SecretForbidden",
            Self::FetchSecret { .. } => "SecretUnreadable",
            Self::SharePort { .. } => "PortConflict",
            Self::NumberPorts { .. } => "PortOutOfRange",
            Self::CountReplicas { .. } => "TooManyLocalReplicas",
            Self::FindTimeZone { .. } => "TimeZoneUnknown",
            Self::ReadSchedule { .. } => "ScheduleUnreadable",
            Self::ReachSchedule { .. } => "ScheduleNeverComes",
            Self::ServeModels { .. } => "TooManyModels",
            Self::LocateModel { .. } => "ModelAddressRelative",
            Self::ReadAuthority { .. } => "RedisAuthorityUnreadable",
            Self::SecureRedis { .. } => "RedisWithoutTls",
            Self::OpenGateway => "GatewayAuthMissing",
        }
    }
}
