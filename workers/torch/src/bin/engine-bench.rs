//! Measures the engine alone: step times of live streams and throughput of batch jobs, as JSON lines.
//!
//! In: a model folder, or a published shape with random weights. Out: one JSON object a line, for `bench/`, which
//! runs it beside other implementations. Times are wall-clock; threads are those of libtorch.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use workers_engine::{Engine, EngineError, SAMPLE_RATE_HZ, SlotOptions, SlotWork};
use workers_torch::{Config, DeviceChoice, LoadOptions, Precision, StepTimes, TorchEngine};

/// Measures the engine alone and prints JSON lines.
#[derive(Debug, Parser)]
struct Args {
    /// Model folder in the layout of Hugging Face.
    #[arg(long, required_unless_present = "width")]
    model: Option<PathBuf>,
    /// A published shape with random weights instead of a model folder.
    #[arg(long, conflicts_with = "model")]
    width: Option<Width>,
    /// Keep only so many encoder layers of --width (times scale with them).
    #[arg(long, requires = "width")]
    layers: Option<usize>,
    /// What to measure.
    #[arg(long, default_value = "stream")]
    mode: Mode,
    /// Type to compute in.
    #[arg(long, default_value = "fp32")]
    dtype: Dtype,
    /// Threads of libtorch.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Look-aheads in encoder frames, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "3")]
    lookahead: Vec<usize>,
    /// Streams stepped together (stream), or utterances decoded together (batch), one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,100")]
    streams: Vec<usize>,
    /// Steps to time (stream).
    #[arg(long, default_value_t = 40)]
    steps: usize,
    /// Chunks a step (batch).
    #[arg(long, default_value_t = 8)]
    chunks: usize,
    /// Utterances to decode (batch).
    #[arg(long, default_value_t = 64)]
    utterances: usize,
    /// Seconds of an utterance (batch).
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Run plain tensor operations instead of the CPU kernels.
    #[arg(long)]
    plain: bool,
    /// A mono 16 kHz 16-bit WAV file to repeat as audio; without it, a tone in noise.
    #[arg(long)]
    audio: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Width {
    /// The published 0.6 B model: 24 layers of 1024, 8-fold subsampling.
    #[value(name = "0.6b")]
    Published,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Stream,
    Batch,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    Fp32,
    Bf16,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let audio = match &args.audio {
        Some(path) => read_wav(path)?,
        None => tone_in_noise(30.0),
    };
    let begin = Instant::now();
    let mut engine = load(&args)?;
    let load_s = begin.elapsed().as_secs_f64();
    for &lookahead in &args.lookahead {
        for &streams in &args.streams {
            let mut line = match args.mode {
                Mode::Stream => stream(&mut engine, &args, streams, lookahead, &audio)?,
                Mode::Batch => batch(&mut engine, &args, streams, lookahead, &audio)?,
            };
            line["dtype"] = format!("{:?}", args.dtype).to_lowercase().into();
            line["threads"] = args.threads.into();
            line["device"] = engine.info().device.clone().into();
            line["model"] = engine.info().model.clone().into();
            line["load_s"] = round(load_s).into();
            println!("{line}");
        }
    }
    Ok(())
}

fn load(args: &Args) -> Result<TorchEngine, EngineError> {
    let options = LoadOptions {
        model: match &args.model {
            Some(folder) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => "random-0.6b".into(),
        },
        device: args.device,
        precision: match args.dtype {
            Dtype::Fp32 => Precision::Fp32,
            Dtype::Bf16 => Precision::Bf16,
        },
        slots: args.streams.iter().max().copied(),
        threads: Some(args.threads),
        plain: args.plain,
    };
    if let Some(folder) = &args.model {
        return TorchEngine::load(folder, &options);
    }
    let mut config = Config::width_600m();
    config.encoder.layers = args.layers.unwrap_or(config.encoder.layers);
    TorchEngine::random(config, &options)
}

/// Times steps in which every stream takes one chunk, after warm-up steps that fill all caches.
fn stream(
    engine: &mut TorchEngine,
    args: &Args,
    streams: usize,
    lookahead: usize,
    audio: &[i16],
) -> Result<serde_json::Value, EngineError> {
    let options = SlotOptions { lookahead, chunks_per_step: 1 };
    for slot in 0..streams {
        engine.open(slot, options)?;
    }
    let chunk = engine.info().step_samples(options, false);
    let warm_up = 80 / (lookahead + 1) + 3;
    let (mut walls, mut parts, mut tokens) = (Vec::new(), StepTimes::default(), 0);
    let mut cpu_begin = 0.0;
    for step in 0..warm_up + args.steps {
        let length = engine.info().step_samples(options, step == 0);
        // Streams are apart in the audio, so that they do not emit in the same step.
        let work: Vec<SlotWork<'_>> = (0..streams)
            .map(|slot| {
                let start = (step * chunk + slot * 7919) % (audio.len() - length);
                SlotWork { slot, samples: &audio[start..start + length], end: false }
            })
            .collect();
        if step == warm_up {
            cpu_begin = cpu_seconds();
        }
        let begin = Instant::now();
        let outputs = engine.step(&work)?;
        if step >= warm_up {
            walls.push(begin.elapsed().as_secs_f64() * 1e3);
            tokens += outputs.iter().map(|output| output.tokens.len()).sum::<usize>();
            add(&mut parts, engine.times());
        }
    }
    let cpu_ms = (cpu_seconds() - cpu_begin) * 1e3 / args.steps as f64;
    walls.sort_by(f64::total_cmp);
    let mean = walls.iter().sum::<f64>() / walls.len() as f64;
    let chunk_ms = chunk as f64 / f64::from(SAMPLE_RATE_HZ) * 1e3;
    let per_step = 1e3 / args.steps as f64;
    Ok(serde_json::json!({
        "bench": "stream", "streams": streams, "lookahead": lookahead, "chunk_ms": chunk_ms, "steps": args.steps,
        "step_ms_mean": round(mean), "step_ms_p50": round(walls[walls.len() / 2]),
        "step_ms_p99": round(walls[(walls.len() * 99).div_ceil(100) - 1]), "step_ms_min": round(walls[0]),
        "cpu_ms": round(cpu_ms), "features_ms": round(parts.features * per_step), "encoder_ms": round(parts.encoder * per_step),
        "decoder_ms": round(parts.decoder * per_step), "tokens": tokens,
        "realtime_streams": (streams as f64 * chunk_ms / mean).floor(),
    }))
}

/// Decodes utterances in groups, several chunks a step.
fn batch(
    engine: &mut TorchEngine,
    args: &Args,
    group: usize,
    lookahead: usize,
    audio: &[i16],
) -> Result<serde_json::Value, EngineError> {
    let options = SlotOptions { lookahead, chunks_per_step: args.chunks };
    let length = (args.seconds * f64::from(SAMPLE_RATE_HZ)) as usize;
    let utterances: Vec<Vec<i16>> = (0..args.utterances)
        .map(|index| audio.iter().cycle().skip(index * 7919 % audio.len()).take(length).copied().collect())
        .collect();
    decode_group(engine, options, &utterances[..group.min(utterances.len())])?;
    let begin = Instant::now();
    let (mut tokens, mut parts) = (0, StepTimes::default());
    for group in utterances.chunks(group) {
        let (found, times) = decode_group(engine, options, group)?;
        tokens += found;
        add(&mut parts, times);
    }
    let wall = begin.elapsed().as_secs_f64();
    let audio_s = args.seconds * args.utterances as f64;
    Ok(serde_json::json!({
        "bench": "batch", "group": group, "lookahead": lookahead, "chunks_per_step": args.chunks,
        "utterances": args.utterances, "seconds": args.seconds, "audio_s": audio_s, "wall_s": round(wall),
        "rtf": wall / audio_s, "rtfx": round(audio_s / wall), "tokens": tokens,
        "features_s": round(parts.features), "encoder_s": round(parts.encoder), "decoder_s": round(parts.decoder),
    }))
}

/// Decodes utterances of one length together; returns tokens and times.
fn decode_group(
    engine: &mut TorchEngine,
    options: SlotOptions,
    utterances: &[Vec<i16>],
) -> Result<(usize, StepTimes), EngineError> {
    for slot in 0..utterances.len() {
        engine.open(slot, options)?;
    }
    let (mut at, mut tokens, mut parts) = (0, 0, StepTimes::default());
    loop {
        let length = utterances[0].len();
        let until = at + engine.info().step_samples(options, at == 0);
        let end = until >= length;
        let work: Vec<SlotWork<'_>> = utterances
            .iter()
            .enumerate()
            .map(|(slot, audio)| SlotWork { slot, samples: &audio[at..until.min(length)], end })
            .collect();
        tokens += engine.step(&work)?.iter().map(|output| output.tokens.len()).sum::<usize>();
        add(&mut parts, engine.times());
        if end {
            return Ok((tokens, parts));
        }
        at = until;
    }
}

/// CPU time of this process so far, in seconds, from `/proc/self/stat` (ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn add(sum: &mut StepTimes, times: StepTimes) {
    sum.features += times.features;
    sum.encoder += times.encoder;
    sum.decoder += times.decoder;
}

fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Samples of the data chunk of a plain 16-bit WAV file.
fn read_wav(path: &std::path::Path) -> Result<Vec<i16>, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let data = bytes.windows(4).position(|word| word == b"data").ok_or("no data chunk in the WAV file")?;
    Ok(bytes[data + 8..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

/// A swept tone in deterministic noise, so that features are neither constant nor silent.
fn tone_in_noise(seconds: f64) -> Vec<i16> {
    let mut noise: u32 = 12_345;
    let rate = f64::from(SAMPLE_RATE_HZ);
    (0..(seconds * rate) as usize)
        .map(|index| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let time = index as f64 / rate;
            let tone = (2.0 * std::f64::consts::PI * (200.0 + 150.0 * (time * 0.7).sin()) * time).sin();
            (tone * 6000.0 + f64::from(noise >> 16) * 0.02) as i16
        })
        .collect()
}
