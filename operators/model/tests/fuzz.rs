//! Hostile bytes for what reads files of weights, captions and architectures. The machine is in `tests/fuzz`.
#![allow(clippy::unwrap_used)]

use trommel_core::causes::Causes;
use trommel_fuzz::{Limits, Outcome, Target, as_it_is, check, stored, with_file};
use trommel_model::Tokenizer;
use trommel_model::clip::ClipConfig;
use trommel_model::clip::builtin::builtin;
use trommel_model::file::WeightsFile;

fn target(name: &'static str, about: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8]) -> Outcome) -> Target {
    Target { name, about, seeds, words: &[], mend: as_it_is, limits: Limits::default(), run }
}

fn weights(input: &[u8]) -> Outcome {
    with_file("file", input, |path| {
        let file = match WeightsFile::open(path) {
            Ok(file) => file,
            Err(error) => return Ok(Causes(&error).to_string().replace(&path.display().to_string(), "")),
        };
        let mut said = format!("{:?} {}", file.form, file.tensors.len().min(3));
        for tensor in file.tensors.iter().take(64) {
            match file.fetch(tensor) {
                Ok(fetched) if fetched.size() != tensor.shape => {
                    return Err(format!("{:?} was announced, {:?} fetched", tensor.shape, fetched.size()));
                }
                Ok(_) => said += " read",
                Err(error) => said += Causes(&error).to_string().rsplit(": ").next().unwrap_or_default(),
            }
        }
        Ok(said)
    })
}

#[test]
fn hostile_files_of_weights() {
    let words: &[&[u8]] = &[
        b"\x80\x02",
        b"\x80\x04\x95",
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"X\x07\0\0\0storage",
        b"Q",
        b"R",
        b"t",
        b"(",
        b"}",
        b"]",
        b"u",
        b"s",
        b"a",
        b"e",
        b"h\0",
        b"q\0",
        b"\x85",
        b"\x86",
        b"\x87",
        b".",
        b"J\xff\xff\xff\x7f",
        b"\x8a\x08",
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"\"F32\"",
        b"\"shape\":[",
        b"\"data_offsets\":[0,8]",
    ];
    let limits = Limits { heap_bytes: 32 << 20, ..Limits::default() };
    let seeds = || stored("weights");
    check(&Target { words, limits, ..target("weights", "safetensors and torch.save", seeds, weights) }, 2000);
}

fn captions() -> Vec<Vec<u8>> {
    [
        "a photo of a cat",
        "H\u{e4}user &amp;lt; \u{1f600}\u{200d} it's 1,000,000!!",
        "\u{3042}\u{0301}\u{fffd}   x\t\n",
        "<|startoftext|>",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

#[test]
fn hostile_captions() {
    fn run(input: &[u8]) -> Outcome {
        thread_local! {
            static TOKENIZER: Tokenizer = Tokenizer::new();
        }
        let text = String::from_utf8_lossy(input);
        let tokens = TOKENIZER.with(|tokenizer| tokenizer.encode(&text));
        let end = tokens.iter().position(|&token| token == 49_407);
        if tokens[0] != 49_406 || end.is_none() || tokens.iter().any(|token| !(0..49_408).contains(token)) {
            return Err(format!("{tokens:?}"));
        }
        Ok(format!("{}", end.unwrap_or(0).ilog2()))
    }
    let words: &[&[u8]] = &[
        b"&amp;",
        b"&#",
        b"&#x110000;",
        b"\xf0\x9f\x98\x80",
        b"\xcc\x81",
        b"'s",
        b"<|endoftext|>",
        b"\xc3\xa2\xe2\x82\xac",
    ];
    let limits = Limits { input_bytes: 4 << 10, ..Limits::default() };
    check(&Target { words, limits, ..target("captions", "a caption", captions, run) }, 2000);
}

#[test]
fn hostile_architectures() {
    fn seeds() -> Vec<Vec<u8>> {
        ["ViT-B-32", "ViT-B-16-plus-240"].map(|name| builtin(name).unwrap().to_open_clip_json().into_bytes()).into()
    }
    fn run(input: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(input);
        let config = match ClipConfig::parse("x", &text) {
            Ok(config) => config,
            Err(error) => return Ok(Causes(&error).to_string()),
        };
        let written = config.to_open_clip_json();
        match ClipConfig::parse("x", &written) {
            Ok(back) if back == config => Ok(format!("{}", config.image_parameters() + config.text_parameters() > 0)),
            other => Err(format!("written as {written}, which is read as {other:?}")),
        }
    }
    check(&target("architecture", "an open_clip architecture", seeds, run), 2000);
}
