//! The one internal request behind all edges, and how text becomes it. Pure.
//!
//! In: parameters as names and values (a query, a form, a protobuf config turned into them). Out: [`Batch`] or
//! [`Live`], or an error naming the parameter. Whether it is *allowed* is `admit`'s business, and whether a
//! worker can serve it is decided there too.

use std::collections::HashMap;

use queue::ids::SessionId;

use crate::audio::opus::Framing;
use crate::audio::raw::{Encoding, RawFormat};
use crate::audio::{MAX_CHANNELS, SAMPLE_RATE_HZ};
use crate::error::Error;

/// Milliseconds of silence after which a live utterance is final when the client does not say.
pub const DEFAULT_ENDPOINTING_MS: u32 = 800;

/// Rates of live audio, Hz; multiples of 25, so that resampling delays it by 60 ms at most.
const LIVE_RATES_HZ: Rates = 8_000..=48_000;

/// Published features that this deployment does not have: asking for one is refused, not ignored.
const NOT_SERVED: [&str; 9] = [
    "diarize",
    "gender_detection",
    "emotion_detection",
    "age_detection",
    "redact_pii",
    "redact_pci",
    "webhook_url",
    "callback_url",
    "num_speakers",
];

/// Name of one request, told to the client and written to logs: the client's own, or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The client's name when it is short and printable, else a new one.
    pub fn accept(given: Option<&str>) -> Self {
        let good = |s: &&str| (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic());
        Self(given.filter(good).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wanted of any audio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Model name as given; `None` when not given.
    pub model: Option<String>,
    /// Language as given; `None` when not given.
    pub language: Option<String>,
    /// Encoder frames of look-ahead.
    pub lookahead: Option<u32>,
    /// Word times are wanted.
    pub word_timestamps: bool,
    /// Milliseconds of silence that end a live utterance; 0 is never.
    pub endpointing_ms: u32,
}

/// A recording to be recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What is wanted.
    pub wanted: Wanted,
    /// How bytes without a container are to be read; `None` looks at the bytes.
    pub raw: Option<RawFormat>,
}

/// How live audio is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveFormat {
    /// Samples without a container.
    Raw(RawFormat),
    /// Opus, which says everything itself.
    Opus(Framing),
}

/// A live session to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// What is wanted.
    pub wanted: Wanted,
    /// How its audio is to be read.
    pub format: LiveFormat,
    /// Partial results are wanted.
    pub interim: bool,
    /// An event for every step of the model is wanted.
    pub progress: bool,
    /// Come back to this session.
    pub resume: Option<SessionId>,
}

/// Named values of one request, names in lower case.
#[derive(Debug, Clone, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// From pairs; the last one of a name counts, names that end in `[]` are lists, joined by commas.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut all: HashMap<String, String> = HashMap::new();
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            match all.get_mut(&name).filter(|_| name.ends_with("[]")) {
                Some(list) => {
                    list.push(',');
                    list.push_str(&value);
                }
                None => drop(all.insert(name, value)),
            }
        }
        Self(all)
    }

    /// All pairs again, in no order.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0.into_iter().collect()
    }

    /// A value that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// A yes or no; `default` when it is not given.
    pub fn flag(&self, name: &'static str, default: Flag) -> Result<Flag, Error> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "yes" | "on") => Ok(Flag::Yes),
            Some("false" | "0" | "no" | "off") => Ok(Flag::No),
            Some(_) => Err(invalid(name, "use true or false")),
        }
    }

    /// A number.
    pub fn number(&self, name: &'static str) -> Result<Option<u32>, Error> {
        let parse = |v: &str| v.parse().map_err(|_| invalid(name, "use a whole number"));
        self.get(name).map(parse).transpose()
    }

    /// A recording's parameters. `content` is how its content type says it is to be read.
    pub fn batch(&self, content: Option<RawFormat>) -> Result<Batch, Error> {
        let raw = match self.get("encoding") {
            None => content,
            // A container says so itself; packets without one cannot be told from each other.
            Some("ogg_opus" | "opus") => None,
            Some(name) => Some(self.raw(encoding(name)?, RATES)?),
        };
        Ok(Batch { wanted: self.wanted(0)?, raw })
    }

    /// A live session's parameters.
    pub fn live(&self) -> Result<Live, Error> {
        let format = match self.get("encoding") {
            Some("opus") => LiveFormat::Opus(Framing::Packets),
            Some("ogg_opus") => LiveFormat::Opus(Framing::Ogg),
            name => {
                let encoding = name.map_or(Ok(Encoding::Linear16), encoding)?;
                LiveFormat::Raw(live_format(self.raw(encoding, RATES)?)?)
            }
        };
        let resume =
            self.get("session_id").map(|id| id.parse().map_err(|_| invalid("session_id", "not an id")));
        Ok(Live {
            wanted: self.wanted(self.endpointing_ms()?)?,
            format,
            interim: self.flag("interim_results", Flag::Yes)?.is_yes(),
            progress: self.flag("progress", Flag::No)?.is_yes(),
            resume: resume.transpose()?,
        })
    }

    fn wanted(&self, endpointing_ms: u32) -> Result<Wanted, Error> {
        for name in NOT_SERVED {
            if self.get(name).is_some_and(|v| !matches!(v, "false" | "0" | "no" | "off")) {
                return Err(invalid(name, "this deployment does not have this feature"));
            }
        }
        let words = if self.get("timestamps").is_some() { "timestamps" } else { "word_timestamps" };
        Ok(Wanted {
            model: self.get("model").map(str::to_owned),
            language: self.get("language").map(str::to_owned),
            lookahead: self.number("lookahead")?,
            word_timestamps: self.flag(words, Flag::No)?.is_yes(),
            endpointing_ms,
        })
    }

    /// `endpointing=false`, or milliseconds in `endpointing` or `eou_timeout_ms`; 0 turns it off.
    fn endpointing_ms(&self) -> Result<u32, Error> {
        let on = match self.get("endpointing") {
            None | Some("true") => true,
            Some("false" | "0") => false,
            Some(_) => return endpointing(self.number("endpointing")?.unwrap_or(0)),
        };
        match self.number("eou_timeout_ms")? {
            _ if !on => Ok(0),
            None => Ok(DEFAULT_ENDPOINTING_MS),
            Some(ms) => endpointing(ms),
        }
    }

    fn raw(&self, encoding: Encoding, rates: Rates) -> Result<RawFormat, Error> {
        let rate_hz = self.number("sample_rate")?.unwrap_or(SAMPLE_RATE_HZ);
        let channels = self.number("channels")?.unwrap_or(1);
        raw_format(encoding, rate_hz, channels, &rates)
    }
}

type Rates = std::ops::RangeInclusive<u32>;

const RATES: Rates = crate::audio::INPUT_RATES_HZ;

/// A layout of raw audio inside its limits.
pub fn raw_format(
    encoding: Encoding,
    rate_hz: u32,
    channels: u32,
    rates: &Rates,
) -> Result<RawFormat, Error> {
    if !rates.contains(&rate_hz) {
        return Err(invalid("sample_rate", &format!("{rate_hz} Hz is outside {rates:?} Hz")));
    }
    if channels == 0 || channels > u32::from(MAX_CHANNELS) {
        return Err(invalid("channels", &format!("{channels} is outside 1..={MAX_CHANNELS}")));
    }
    Ok(RawFormat { encoding, rate_hz, channels: channels as u16 })
}

/// A layout that live audio may have.
pub fn live_format(raw: RawFormat) -> Result<RawFormat, Error> {
    if !LIVE_RATES_HZ.contains(&raw.rate_hz) || !raw.rate_hz.is_multiple_of(25) {
        return Err(invalid("sample_rate", "use 8000, 16000, 22050, 24000, 44100 or 48000"));
    }
    Ok(raw)
}

/// Milliseconds of silence that end an utterance; 0 is never.
pub fn endpointing(ms: u32) -> Result<u32, Error> {
    match ms {
        0 | 100..=10_000 => Ok(ms),
        _ => Err(invalid("endpointing", "use 100 to 10000 milliseconds, or 0 to turn it off")),
    }
}

/// How a content type without a container is to be read, when it says so.
pub fn raw_content(content_type: &str) -> Option<RawFormat> {
    let mut parts = content_type.split(';').map(|p| p.trim().to_ascii_lowercase());
    let (encoding, default_rate) = match parts.next()?.as_str() {
        "audio/pcm" | "audio/raw" => (Encoding::Linear16, SAMPLE_RATE_HZ),
        "audio/basic" | "audio/mulaw" | "audio/x-mulaw" | "audio/pcmu" => (Encoding::Mulaw, 8_000),
        "audio/alaw" | "audio/x-alaw" | "audio/pcma" => (Encoding::Alaw, 8_000),
        _ => return None,
    };
    let field = |name: &str| parts.clone().find_map(|p| p.strip_prefix(name)?.parse::<u32>().ok());
    let rate_hz = field("rate=").unwrap_or(default_rate);
    let channels = field("channels=").unwrap_or(1);
    raw_format(encoding, rate_hz, channels, &RATES).ok()
}

/// Yes or no, where a bare `bool` would not say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Flag {
    /// It is yes.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

fn encoding(name: &str) -> Result<Encoding, Error> {
    match name {
        "linear16" => Ok(Encoding::Linear16),
        "linear32" => Ok(Encoding::Linear32),
        "mulaw" => Ok(Encoding::Mulaw),
        "alaw" => Ok(Encoding::Alaw),
        _ => Err(invalid("encoding", "use linear16, linear32, mulaw, alaw, opus or ogg_opus")),
    }
}

fn invalid(name: &'static str, detail: &str) -> Error {
    Error::InvalidParameter { name, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &[(&str, &str)]) -> Params {
        Params::new(query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn a_bare_live_session_gets_the_published_defaults() {
        let live = params(&[]).live().unwrap();
        let raw = RawFormat { encoding: Encoding::Linear16, rate_hz: 16_000, channels: 1 };
        assert_eq!((live.format, live.interim, live.progress), (LiveFormat::Raw(raw), true, false));
        assert_eq!(live.wanted, Wanted { endpointing_ms: 800, ..Wanted::default() });
    }

    #[test]
    fn endpointing_is_said_in_three_ways() {
        type Query = [(&'static str, &'static str)];
        let cases: [(&Query, Option<u32>); 8] = [
            (&[("endpointing", "true")], Some(800)),
            (&[("endpointing", "false"), ("eou_timeout_ms", "500")], Some(0)),
            (&[("endpointing", "300")], Some(300)),
            (&[("eou_timeout_ms", "0")], Some(0)),
            (&[("eou_timeout_ms", "1500")], Some(1_500)),
            (&[("eou_timeout_ms", "99")], None),
            (&[("eou_timeout_ms", "10001")], None),
            (&[("endpointing", "often")], None),
        ];
        for (query, expected) in cases {
            let got = params(query).live().map(|l| l.wanted.endpointing_ms).ok();
            assert_eq!(got, expected, "{query:?}");
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        let cases = [
            ("sample_rate", "96000"),
            ("sample_rate", "16001"),
            ("sample_rate", "fast"),
            ("channels", "0"),
            ("channels", "17"),
            ("encoding", "g729"),
            ("word_timestamps", "maybe"),
            ("lookahead", "-1"),
            ("session_id", "a{b}"),
            ("diarize", "true"),
            ("redact_pii", "true"),
        ];
        for (name, value) in cases {
            match params(&[(name, value)]).live() {
                Err(Error::InvalidParameter { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{name}={value}: {other:?}"),
            }
        }
        for (name, framing) in [("opus", Framing::Packets), ("ogg_opus", Framing::Ogg)] {
            let live = params(&[("encoding", name)]).live().unwrap();
            assert_eq!(live.format, LiveFormat::Opus(framing));
        }
        assert!(params(&[("diarize", "false"), ("punctuate", "true")]).live().is_ok());
    }

    #[test]
    fn content_types_of_raw_audio_say_their_layout() {
        let mulaw = RawFormat { encoding: Encoding::Mulaw, rate_hz: 8_000, channels: 1 };
        assert_eq!(raw_content("audio/basic"), Some(mulaw));
        let pcm = RawFormat { encoding: Encoding::Linear16, rate_hz: 48_000, channels: 2 };
        assert_eq!(raw_content("audio/pcm; channels=2; rate=48000"), Some(pcm));
        assert_eq!(raw_content("audio/wav"), None);
        assert_eq!(raw_content(""), None);
    }

    #[test]
    fn request_ids_are_the_clients_when_printable() {
        assert_eq!(RequestId::accept(Some("abc-1")).as_str(), "abc-1");
        for bad in [None, Some(""), Some("a b"), Some("a\nb"), Some(&*"x".repeat(129))] {
            assert_ne!(RequestId::accept(bad).as_str(), bad.unwrap_or_default());
        }
    }
}
