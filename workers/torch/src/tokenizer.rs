//! Third step of loading: `tokenizer.json` becomes the list of pieces, one a token id.
//!
//! Only the vocabulary is needed: a transducer turns sound into ids, and turning ids into words is joining pieces
//! where `▁` begins a word. Must not know models or audio.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use workers_engine::EngineError;

const FILE: &str = "tokenizer.json";

#[derive(Deserialize)]
struct RawTokenizer {
    model: RawModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct RawModel {
    vocab: RawVocab,
}

/// BPE and word-level models map pieces to ids; Unigram models list pieces with scores.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawVocab {
    Map(BTreeMap<String, usize>),
    List(Vec<(String, f64)>),
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
    content: String,
}

/// Reads the pieces of `folder/tokenizer.json`, in order of their ids, for a model with `vocab_size` tokens.
///
/// The blank is never written, so it alone may lack a piece.
pub(crate) fn read_pieces(
    folder: &Path,
    vocab_size: usize,
    blank: usize,
) -> Result<Vec<String>, EngineError> {
    let text = std::fs::read(folder.join(FILE)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => broken("the file is missing"),
        _ => broken(&error.to_string()),
    })?;
    parse_pieces(&text, vocab_size, blank)
}

fn parse_pieces(text: &[u8], vocab_size: usize, blank: usize) -> Result<Vec<String>, EngineError> {
    let raw: RawTokenizer = serde_json::from_slice(text)
        .map_err(|error| broken(&format!("the file is not a tokenizer with a vocabulary: {error}")))?;
    let mut pieces = vec![None; vocab_size];
    let vocabulary: Vec<(String, usize)> = match raw.model.vocab {
        RawVocab::Map(map) => map.into_iter().collect(),
        RawVocab::List(list) => list.into_iter().enumerate().map(|(id, (piece, _))| (piece, id)).collect(),
    };
    let added = raw.added_tokens.into_iter().map(|token| (token.content, token.id));
    for (piece, id) in vocabulary.into_iter().chain(added) {
        match pieces.get_mut(id) {
            Some(place) => *place = Some(piece),
            None => {
                return Err(broken(&format!(
                    "token '{piece}' has id {id}, but the model has {vocab_size} tokens"
                )));
            }
        }
    }
    pieces
        .into_iter()
        .enumerate()
        .map(|(id, piece)| {
            piece
                .or_else(|| (id == blank).then(String::new))
                .ok_or_else(|| broken(&format!("token id {id} has no piece")))
        })
        .collect()
}

fn broken(detail: &str) -> EngineError {
    EngineError::LoadModel { file: FILE.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expect: Result<&[&str], &str>) {
        match (parse_pieces(json.as_bytes(), 3, 2), expect) {
            (Ok(pieces), Ok(wanted)) => assert_eq!(pieces, wanted),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, wanted) => panic!("got {got:?}, wanted {wanted:?}"),
        }
    }

    #[test]
    fn both_vocabulary_forms_give_pieces_in_order() {
        check(
            r#"{"model":{"vocab":{"b":1,"▁a":0}},"added_tokens":[{"id":2,"content":"<blank>"}]}"#,
            Ok(&["▁a", "b", "<blank>"]),
        );
        check(r#"{"model":{"vocab":[["x",0.0],["y",-1.5],["z",-2]]}}"#, Ok(&["x", "y", "z"]));
    }

    #[test]
    fn a_vocabulary_that_does_not_fit_the_model_is_named() {
        check(r#"{"model":{"vocab":{"a":0,"c":2}}}"#, Err("token id 1 has no piece"));
        check(r#"{"model":{"vocab":{"a":0,"b":1,"c":2,"d":3}}}"#, Err("token 'd' has id 3"));
        check("not json", Err("not a tokenizer"));
    }
}
