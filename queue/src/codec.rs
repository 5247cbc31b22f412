//! Messages as bytes: `MessagePack` with field names behind a version. Pure.
//!
//! One value is `version, MessagePack`; a parcel of many is `version, then (length as u32 LE, MessagePack)…`, so
//! that a reader can step over a message it does not understand. Unknown fields are skipped and missing ones
//! take their `#[serde(default)]`: neighbouring versions understand each other. A higher version is refused.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::CONTRACT_VERSION;

const VERSION: u8 = {
    assert!(CONTRACT_VERSION <= 255, "the version travels in one byte");
    CONTRACT_VERSION as u8
};

/// Bytes that this contract did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing there, or cut short.
    #[error("failed to read a message: it is cut short")]
    Short,
    /// A newer writer.
    #[error(
        "failed to read a message of contract version {found}: this program knows up to {known}; update it"
    )]
    Version {
        /// Of the message.
        found: u8,
        /// Of this program.
        known: u8,
    },
    /// Not `MessagePack`, or not this type.
    #[error("failed to read a message: {0}")]
    Value(String),
}

impl CodecError {
    /// A stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Short => "Short",
            Self::Version { .. } => "Version",
            Self::Value(_) => "Value",
        }
    }
}

/// What was in a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel<T> {
    /// Messages in order.
    pub messages: Vec<T>,
    /// Messages of kinds that this program does not know.
    pub skipped: usize,
}

/// Writes one value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    append(&mut bytes, value);
    bytes
}

/// Reads one value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    read(check_version(bytes)?)
}

/// Writes many messages.
pub fn pack<'a, T: Serialize + 'a>(messages: impl IntoIterator<Item = &'a T>) -> Vec<u8> {
    let mut parcel = vec![VERSION];
    for message in messages {
        add(&mut parcel, message);
    }
    parcel
}

/// Adds a message to a parcel; an empty one gets its version first.
pub fn add<T: Serialize>(parcel: &mut Vec<u8>, message: &T) {
    if parcel.is_empty() {
        parcel.push(VERSION);
    }
    let at = parcel.len();
    parcel.extend_from_slice(&[0; 4]);
    append(parcel, message);
    let length = (parcel.len() - at - 4) as u32;
    parcel[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads many messages.
pub fn unpack<T: DeserializeOwned>(parcel: &[u8]) -> Result<Parcel<T>, CodecError> {
    let mut rest = check_version(parcel)?;
    let mut read_out = Parcel { messages: Vec::new(), skipped: 0 };
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(CodecError::Short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (message, after) = after.split_at_checked(length).ok_or(CodecError::Short)?;
        match read(message) {
            Ok(message) => read_out.messages.push(message),
            Err(_) => read_out.skipped += 1,
        }
        rest = after;
    }
    Ok(read_out)
}

fn append<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write_named(bytes, value)
        .expect("the contract's types have no maps with unknown length and a Vec takes all bytes");
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    rmp_serde::from_slice(bytes).map_err(|e| CodecError::Value(e.to_string()))
}

fn check_version(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short),
        Some((&found, _)) if found == 0 || found > VERSION => {
            Err(CodecError::Version { found, known: VERSION })
        }
        Some((_, rest)) => Ok(rest),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::job::{BatchJob, RecognizeOptions, Timing, WorkError, WorkErrorKind};
    use crate::session::{SessionEvent, ToGateway, ToWorker};

    fn to_worker() -> impl Strategy<Value = ToWorker> {
        let session = "[a-zA-Z0-9._-]{1,64}".prop_map(|s| s.parse().unwrap());
        (session, any::<u32>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..3_000), 0..5_u8)
            .prop_map(|(session, epoch, at_samples, pcm, kind)| match kind {
                0 => ToWorker::Audio { session, epoch, at_samples, pcm: Bytes::from(pcm) },
                1 => ToWorker::Flush { session, epoch, at_samples },
                2 => ToWorker::End { session, epoch, at_samples },
                3 => ToWorker::Cancel { session, epoch },
                _ => ToWorker::CancelBatch { job: session.as_str().parse().unwrap() },
            })
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(messages in proptest::collection::vec(to_worker(), 0..6)) {
            let parcel = unpack::<ToWorker>(&pack(&messages)).unwrap();
            prop_assert_eq!(parcel, Parcel { messages, skipped: 0 });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut versioned = vec![VERSION];
            versioned.extend_from_slice(&bytes);
            for input in [&bytes, &versioned] {
                let _ = unpack::<ToWorker>(input);
                let _ = unpack::<ToGateway>(input);
                let _ = decode::<BatchJob>(input);
            }
        }

        #[test]
        fn a_damaged_message_never_panics(message in to_worker(), at in any::<u16>(), to in any::<u8>()) {
            let mut bytes = pack([&message]);
            let at = at as usize % bytes.len();
            bytes[at] = to;
            let _ = unpack::<ToWorker>(&bytes);
            let _ = unpack::<ToWorker>(&bytes[..at]);
        }
    }

    #[test]
    fn a_newer_writer_with_more_fields_is_understood() {
        #[derive(Serialize)]
        struct NewerOptions<'a> {
            language: &'a str,
            invented_later: u8,
        }
        let options: RecognizeOptions =
            decode(&encode(&NewerOptions { language: "en", invented_later: 7 })).unwrap();
        assert_eq!(options.language, "en");
        assert_eq!((options.model, options.endpointing_ms), (None, 0));
    }

    #[test]
    fn a_message_of_an_unknown_kind_is_stepped_over() {
        #[derive(Serialize)]
        enum Newer {
            InventedLater { session: &'static str },
        }
        let mut parcel = pack([&Newer::InventedLater { session: "s" }]);
        let known = ToWorker::Cancel { session: "s".parse().unwrap(), epoch: 2 };
        add(&mut parcel, &known);
        let read_out = unpack::<ToWorker>(&parcel).unwrap();
        assert_eq!(read_out, Parcel { messages: vec![known], skipped: 1 });
    }

    #[test]
    fn a_newer_contract_is_refused_by_name() {
        let error = decode::<RecognizeOptions>(&[VERSION + 1, 0x80]).unwrap_err();
        assert_eq!(error, CodecError::Version { found: VERSION + 1, known: VERSION });
        assert_eq!(error.reason(), "Version");
        assert_eq!(decode::<RecognizeOptions>(&[]).unwrap_err(), CodecError::Short);
    }

    #[test]
    fn audio_costs_little_more_than_its_samples() {
        let pcm = Bytes::from(vec![1_u8; 5_120]);
        let session = crate::ids::SessionId::generate();
        let parcel = pack([&ToWorker::Audio { session, epoch: 1, at_samples: 1_000_000, pcm }]);
        assert!(parcel.len() < 5_120 + 128, "{} bytes", parcel.len());
    }

    #[test]
    fn an_id_with_a_forbidden_character_is_not_read() {
        #[derive(Serialize, Deserialize)]
        struct Raw {
            job: String,
        }
        #[derive(Debug, Deserialize)]
        struct Checked {
            #[expect(dead_code, reason = "only reading it matters")]
            job: crate::ids::JobId,
        }
        assert!(decode::<Checked>(&encode(&Raw { job: "a:b".into() })).is_err());
    }

    #[test]
    fn a_failure_travels_with_its_kind() {
        let error = WorkError { kind: WorkErrorKind::AudioLost, message: "gone".into() };
        let event = ToGateway::Session {
            session: "s".parse().unwrap(),
            epoch: 3,
            event: SessionEvent::Failed(error),
        };
        let update = ToGateway::Session {
            session: "s".parse().unwrap(),
            epoch: 3,
            event: SessionEvent::Update { processed_samples: 9, partial: None, timing: Timing::default() },
        };
        let parcel = unpack::<ToGateway>(&pack([&event, &update])).unwrap();
        assert_eq!(parcel.messages, vec![event, update]);
    }
}
