//! What a sample's json says: uid, url, sha256, caption.
//!
//! Python writes json that no standard allows (`NaN`, lone surrogates, bytes that are not UTF-8): what strict parsing refuses is
//! mended and parsed once more. Json that stays unreadable gives nothing and rejects no sample; whoever reads it counts it.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

/// The fields that matter of a sample's json. A field repeated counts as its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `uid`, numbers as text; `None` for a number of more than 64 bits too.
    pub uid: Option<String>,
    /// `url`: where the picture was downloaded.
    pub url: Option<String>,
    /// `sha256`: of the original picture, in hex.
    pub sha256: Option<String>,
    /// `caption`, if it is text.
    pub caption: Option<String>,
}

impl Metadata {
    /// Reads a json object; `None` for anything else.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).or_else(|_| serde_json::from_str(&mended(json))).ok()
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::default();
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.as_str() {
                "uid" => &mut metadata.uid,
                "url" => &mut metadata.url,
                "sha256" => &mut metadata.sha256,
                "caption" => &mut metadata.caption,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field =
                map.next_value::<Scalar>()?.0.filter(|(_, text)| *text || key != "caption").map(|(value, _)| value);
        }
        Ok(metadata)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// A text or number, with whether it was text; anything else is nothing.
struct Scalar(Option<(String, bool)>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(Some((value.to_string(), true))))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(Some((value.to_string(), false))))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(Some((value.to_string(), false))))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        // A whole number beyond 64 bits comes as one that has lost digits: neighbours would be one uid.
        Ok(Scalar((value.abs() < 2f64.powi(53)).then(|| (value.to_string(), false))))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(None))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar(None))
    }
}

/// Python's json as strict json: lone surrogates become U+FFFD, `NaN` and infinities null, raw control characters escapes.
fn mended(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        if in_string {
            if let Some(unit) = unicode_escape(rest) {
                let pair = unicode_escape(&rest[6..]).is_some_and(|low| (0xdc00..0xe000).contains(&low));
                let take = match unit {
                    0xd800..0xdc00 if pair => 12,
                    0xd800..0xe000 => {
                        out.push_str("\\ufffd");
                        rest = &rest[6..];
                        continue;
                    }
                    _ => 6,
                };
                out.push_str(&rest[..take]);
                rest = &rest[take..];
                continue;
            }
            if c == '\\' {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..length]);
                rest = &rest[length..];
                continue;
            }
            in_string = c != '"';
        } else {
            if let Some(word) = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| rest.starts_with(word)) {
                out.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
            in_string = c == '"';
        }
        match c {
            c if in_string && c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The code unit of an escape such as `\ud83d` at the start of `text`.
fn unicode_escape(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(json: &[u8]) -> Metadata {
        Metadata::parse(json).unwrap_or_default()
    }

    #[test]
    fn fields() {
        let json = br#"{"url":"http:\/\/x","caption":"a \"b\"","uid":"00ff","sha256":null,"exif":"{}","n":{"uid":1},"uid":"2"}"#;
        let metadata = parse(json);
        assert_eq!(metadata.url.as_deref(), Some("http://x"));
        assert_eq!(metadata.caption.as_deref(), Some("a \"b\""));
        assert_eq!((metadata.uid.as_deref(), metadata.sha256), (Some("2"), None));
        assert_eq!(parse(br#"{"uid":17,"caption":17,"url":[1,{"a":2}],"sha256":{"x":[]}}"#).uid.as_deref(), Some("17"));
        assert_eq!(parse(br#"{"caption":17}"#), Metadata::default());
        // Its last digits would be gone.
        assert_eq!(parse(br#"{"uid":340282366920938463463374607431768211455}"#).uid, None);
        assert_eq!(parse(br#"{"uid":18446744073709551616}"#).uid, None);
        assert_eq!(parse(br#"{"uid":18446744073709551615}"#).uid.as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn what_python_writes() {
        let cases: &[(&[u8], &str)] = &[
            (br#"{"a":NaN,"b":[-Infinity,Infinity],"caption":"NaN \ud83d\ude00"}"#, "NaN \u{1f600}"),
            (br#"{"caption":"x\ud83dy\\ud800\ude00"}"#, "x\u{fffd}y\\ud800\u{fffd}"),
            (br#"{"caption":"\ud83d\ud83d\ude00"}"#, "\u{fffd}\u{1f600}"),
            (b"{\"caption\":\"a\xffb\"}", "a\u{fffd}b"),
            (b"{\"caption\":\"a\nb\x00c\"}", "a\nb\0c"),
            (b"\xef\xbb\xbf{\"caption\":\"bom\"}", "bom"),
            (br#"{"n":1e999,"m":123456789012345678901234567890,"caption":"big"}"#, "big"),
        ];
        for (json, wanted) in cases {
            assert_eq!(parse(json).caption.as_deref(), Some(*wanted), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn anything_else_is_nothing() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        for json in [
            &b""[..],
            b"null",
            b"[]",
            b"{",
            b"{\"caption\":",
            b"{\"caption\":\"\\u",
            b"{\"caption\":\"\\ud8",
            b"\"",
            b"\\",
            &deep,
        ] {
            assert_eq!(Metadata::parse(json), None, "{}", String::from_utf8_lossy(&json[..json.len().min(20)]));
        }
        let deep = [br#"{"caption":"x","a":"#.to_vec(), deep].concat();
        assert_eq!(parse(&deep), Metadata::default());
    }
}
