//! Names of the parties and of the work. Pure.
//!
//! All ids are short strings without `:`, `{` and `}`, so that they can stand inside Redis keys.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new, unique, time-ordered id (UUID version 7).
            pub fn generate() -> Self {
                Self(format!("{}{}", $prefix, uuid::Uuid::now_v7().simple()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                check(s).map(|()| Self(s.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                check(&s).map(|()| Self(s))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(/// One batch job.
    JobId, "job-");
id!(/// One live session; clients may use it to come back.
    SessionId, "ses-");
id!(/// One gateway process.
    GatewayId, "gw-");
id!(/// One worker process.
    WorkerId, "wk-");

/// A string that cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read id {0:?}: use 1 to 64 of letters, digits, '.', '_' and '-'")]
pub struct InvalidId(String);

fn check(s: &str) -> Result<(), InvalidId> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&s.len()) && s.chars().all(good) { Ok(()) } else { Err(InvalidId(s.to_owned())) }
}
