//! The pictures that `golden/*.py` made its expectations from, by the same formula, and how these are written. Other rooms' tests
//! take this file in by its path.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use trommel_model::random::Stream;

pub(crate) const IMAGES: usize = 3;

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub(crate) fn views(size: usize) -> Vec<u8> {
    let noise = Stream::new(0, "image");
    let mut out = Vec::with_capacity(IMAGES * size * size * 3);
    for n in 0..IMAGES {
        for y in 0..size {
            for x in 0..size {
                for c in 0..3 {
                    let cell = ((n * 64 + y / 8) * 64 + x / 8) * 3 + c;
                    let noise = (noise.bits(cell as u64) >> 56) as usize & 127;
                    out.push(((x * (n + 1) + 2 * y + 85 * c + noise) & 255) as u8);
                }
            }
        }
    }
    out
}
