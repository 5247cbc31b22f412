//! The engine against the golden files: features, encoder output, logits, tokens, for every model and look-ahead.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

#[derive(Deserialize)]
struct Index {
    folder: String,
    digest: String,
    lookaheads: Vec<usize>,
    tolerance: Tolerance,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Tolerance {
    features: f64,
    encoder: f64,
    logits: f64,
    log_probs: f64,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    samples: usize,
    results: Vec<CaseResult>,
}

#[derive(Deserialize)]
struct CaseResult {
    lookahead: usize,
    encoder_frames: u32,
    stream_samples: usize,
}

/// One model with its cases.
struct Golden {
    folder: PathBuf,
    index: Index,
}

/// Folder of answers that the reference gave on this very machine (`generate.py --again`), which `make test` makes:
/// the tolerance itself is kept then. Without it the committed files count, which may come from another CPU model.
const ANSWERED_HERE: &str = "GOLDEN_ANSWERED_HERE";

/// Where the engine runs: `cpu` unless this is set, to `cuda` on a machine with a GPU.
const DEVICE: &str = "GOLDEN_DEVICE";

/// What an engine gives for one recording.
struct Heard {
    mels: Tensor,
    encoded: Tensor,
    tokens: Vec<Token>,
    frames: u32,
}

/// The golden files of one model, made from the model folder as it is now.
fn golden(name: &str) -> Golden {
    let committed = || Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let folder = std::env::var_os(ANSWERED_HERE).map_or_else(committed, PathBuf::from).join(name);
    let index: Index = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let mut lines = String::new();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let bytes = std::fs::read(folder.join(&index.folder).join(file)).unwrap();
        writeln!(lines, "{:x}  {file}", Sha256::digest(bytes)).unwrap();
    }
    let digest = format!("sha256:{:x}", Sha256::digest(lines));
    assert_eq!(digest, index.digest, "{name} has changed since its golden files: run golden/generate.py");
    Golden { folder, index }
}

impl Golden {
    fn engine(&self, plain: bool) -> TorchEngine {
        let options = LoadOptions {
            slots: Some(6),
            device: device(),
            threads: Some(1),
            plain,
            ..LoadOptions::default()
        };
        let mut engine = TorchEngine::load(&self.folder.join(&self.index.folder), &options).unwrap();
        // The files hold every look-ahead, also those the model was not trained for.
        engine.info.lookaheads.clone_from(&self.index.lookaheads);
        engine.info.lookaheads.sort_unstable();
        engine
    }

    fn tensors(&self, case: &Case) -> Vec<u8> {
        std::fs::read(self.folder.join(&case.file)).unwrap()
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    assert_eq!(view.dtype(), Dtype::F32, "{name}");
    Tensor::from_data_size(view.data(), &shape, Kind::Float)
}

fn integers(file: &SafeTensors<'_>, name: &str) -> Vec<i64> {
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::I32, "{name}");
    view.data().chunks_exact(4).map(|word| i64::from(i32::from_le_bytes(word.try_into().unwrap()))).collect()
}

fn audio(file: &SafeTensors<'_>) -> Vec<i16> {
    file.tensor("audio")
        .unwrap()
        .data()
        .chunks_exact(2)
        .map(|word| i16::from_le_bytes([word[0], word[1]]))
        .collect()
}

/// Runs one recording through `slot`, collecting what lies inside the audio.
fn hear(engine: &mut TorchEngine, slot: usize, audio: &[i16], options: SlotOptions) -> Heard {
    engine.open(slot, options).unwrap();
    let (mut at, mut mels, mut encoded, mut tokens) = (0, Vec::new(), Vec::new(), Vec::new());
    loop {
        let until = at + engine.info().step_samples(options, at == 0);
        let end = until >= audio.len();
        let work = SlotWork { slot, samples: &audio[at..until.min(audio.len())], end };
        let (outputs, observed) = engine.advance(&[work]).unwrap();
        if let Some(observed) = observed {
            let row = &observed.batch.rows[0];
            let valid = observed.batch.stage_valid(row, 0);
            mels.push(observed.mel.get(0).narrow(0, valid.start as i64, valid.len() as i64));
            encoded.push(observed.encoded.narrow(0, 0, observed.batch.valid(row) as i64));
        }
        tokens.extend(outputs[0].tokens.iter().copied());
        at = until;
        if end {
            let (mels, encoded) = (Tensor::cat(&mels, 0), Tensor::cat(&encoded, 0));
            return Heard { mels, encoded, tokens, frames: outputs[0].frames };
        }
    }
}

#[track_caller]
fn close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(got.size(), want.size(), "{what}");
    let tolerance = tolerance * if answered_here() { 1.0 } else { OTHER_CPU };
    if want.numel() > 0 {
        let difference =
            (got.to_device(Device::Cpu).to_kind(Kind::Float) - want).abs().max().double_value(&[]);
        show(what, difference);
        assert!(difference <= tolerance, "{what} differs by {difference:.1e}, allowed is {tolerance:.0e}");
    }
}

fn device() -> DeviceChoice {
    std::env::var(DEVICE).map_or(DeviceChoice::Cpu, |name| name.parse().unwrap())
}

/// On another device than the files come from, people want to see how far it is (`--nocapture`).
fn show(what: &str, difference: f64) {
    if std::env::var_os(DEVICE).is_some() {
        println!("differs by {difference:.1e}: {what}");
    }
}

fn answered_here() -> bool {
    std::env::var_os(ANSWERED_HERE).is_some()
}

/// The committed files may come from another CPU model, whose transforms round the features otherwise; what that makes of
/// encoder and logits was seen to be up to 5.5 times the tolerance (a sine sweep) between an AMD EPYC and an Intel
/// Xeon. On one and the same CPU the tolerance itself is kept.
const OTHER_CPU: f64 = 10.0;
/// What a transform rounds, as a part of a frame's loudest amplitude. Transforms differ in it between CPU models.
const ROUNDING: f64 = 1.0 / (1 << 20) as f64;

/// Features `[frames, mels]`: the logarithm of a quiet bin beside loud ones shows the rounding of the transform,
/// so a bin is allowed, beside the tolerance, what that rounding is of its own amplitude.
#[track_caller]
fn close_features(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(got.size(), want.size(), "{what}");
    let below_loudest = want.amax([-1].as_slice(), true) - want;
    let rounding = if answered_here() { 0.0 } else { ROUNDING };
    let allowed = (below_loudest * 0.5).exp() * rounding + tolerance;
    let difference = (got.to_device(Device::Cpu).to_kind(Kind::Float) - want).abs();
    let excess = (&difference - allowed).max().double_value(&[]);
    let most = difference.max().double_value(&[]);
    show(what, most);
    assert!(excess <= 0.0, "{what} differs by up to {most:.1e}, {excess:.1e} beyond what is allowed");
}

#[track_caller]
fn check_tokens(got: &[Token], file: &SafeTensors<'_>, prefix: &str, tolerance: f64, what: &str) {
    let ids: Vec<i64> = got.iter().map(|token| i64::from(token.id)).collect();
    assert_eq!(ids, integers(file, &format!("{prefix}.tokens")), "{what}: tokens");
    let frames: Vec<i64> = got.iter().map(|token| i64::from(token.frame)).collect();
    assert_eq!(frames, integers(file, &format!("{prefix}.frames")), "{what}: frames");
    let log_probs: Vec<f32> = got.iter().map(|token| token.log_prob).collect();
    close(&Tensor::from_slice(&log_probs), &floats(file, &format!("{prefix}.log_probs")), tolerance, what);
}

fn check_case(engine: &mut TorchEngine, golden: &Golden, case: &Case) {
    let bytes = golden.tensors(case);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let audio = audio(&file);
    assert_eq!(audio.len(), case.samples);
    let tolerance = &golden.index.tolerance;
    for result in &case.results {
        let lookahead = result.lookahead;
        let prefix = format!("r{lookahead}");
        let what = format!("{} {} r{lookahead}", golden.folder.display(), case.file);
        let heard = hear(engine, lookahead % 6, &audio, SlotOptions { lookahead, chunks_per_step: 1 });
        assert_eq!(heard.frames, result.encoder_frames, "{what}");
        let features = floats(&file, "features");
        close_features(&heard.mels, &features, tolerance.features, &format!("{what}: features"));
        let encoded = floats(&file, &format!("{prefix}.encoder"));
        close(&heard.encoded, &encoded, tolerance.encoder, &format!("{what}: encoder"));
        check_tokens(&heard.tokens, &file, &prefix, tolerance.log_probs, &what);
        let frames = integers(&file, &format!("{prefix}.step_frames"));
        let path: Vec<_> =
            frames.into_iter().zip(integers(&file, &format!("{prefix}.step_tokens"))).collect();
        let _inference = InferenceMode::enter();
        let logits = engine.decoder.path_logits(&heard.encoded, &path, 0, &mut engine.arena.decoder).unwrap();
        close(
            &logits,
            &floats(&file, &format!("{prefix}.logits")),
            tolerance.logits,
            &format!("{what}: logits"),
        );

        let mut longer = audio.clone();
        longer.resize(result.stream_samples, 0);
        let streamed = hear(engine, 1, &longer, SlotOptions { lookahead, chunks_per_step: 1 });
        check_tokens(&streamed.tokens, &file, &format!("{prefix}.stream"), tolerance.log_probs, &what);
        let chunks_per_step = 4;
        let many = hear(engine, 2, &audio, SlotOptions { lookahead, chunks_per_step });
        close(
            &many.encoded,
            &encoded,
            tolerance.encoder,
            &format!("{what}: {chunks_per_step} chunks a step"),
        );
        check_tokens(&many.tokens, &file, &prefix, tolerance.log_probs, &what);
    }
}

/// Every case of a model, by the CPU kernels and by the plain operations that a GPU runs; on a GPU both are the latter.
fn check_model(name: &str) {
    let golden = golden(name);
    for plain in [false, true] {
        let mut engine = golden.engine(plain);
        for case in &golden.index.cases {
            check_case(&mut engine, &golden, case);
        }
    }
}

#[test]
fn demo_asr_equals_the_reference() {
    check_model("demo-asr");
}

#[test]
fn tiny_4x_equals_the_reference() {
    check_model("tiny-4x");
}

#[test]
fn tiny_8x_equals_the_reference() {
    check_model("tiny-8x");
}

#[test]
fn tiny_4x_nobias_equals_the_reference() {
    check_model("tiny-4x-nobias");
}

#[test]
fn tiny_8x_relu_equals_the_reference() {
    check_model("tiny-8x-relu");
}

#[test]
fn tiny_4x_bf16_equals_the_reference() {
    check_model("tiny-4x-bf16");
}

#[test]
fn the_engine_keeps_its_contract() {
    for (name, plain) in [("tiny-4x-nobias", false), ("tiny-8x", false), ("tiny-8x-relu", true)] {
        let golden = golden(name);
        let recordings: Vec<Vec<i16>> = golden
            .index
            .cases
            .iter()
            .map(|case| audio(&SafeTensors::deserialize(&golden.tensors(case)).unwrap()))
            .collect();
        workers_engine::conformance::check(&mut golden.engine(plain), &recordings);
    }
}

#[test]
fn bf16_stays_near_fp32() {
    let golden = golden("tiny-4x");
    let options = LoadOptions {
        precision: Precision::Bf16,
        device: device(),
        slots: Some(2),
        threads: Some(1),
        ..LoadOptions::default()
    };
    let mut engine = TorchEngine::load(&golden.folder.join(&golden.index.folder), &options).unwrap();
    engine.info.lookaheads = vec![6];
    for case in &golden.index.cases {
        let bytes = golden.tensors(case);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let heard = hear(&mut engine, 0, &audio(&file), SlotOptions { lookahead: 6, chunks_per_step: 1 });
        let want = floats(&file, "r6.encoder");
        let scale = want.abs().max().double_value(&[]);
        close(&heard.encoded, &want, 0.05 * scale, &format!("{} in bf16", case.file));
    }
}
