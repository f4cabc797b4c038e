//! Listings with `encoding-type=url`: XML can't carry every key, and one key with a control character would make the whole
//! page unreadable (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, request parameters).

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

/// The keys of one answer.
pub(super) struct Decoder {
    is_encoded: bool,
}

impl Decoder {
    /// `announced` is the answer's `EncodingType`, `texts` are all keys and prefixes in it.
    ///
    /// A store that knows nothing of the encoding leaves the element out, and a page that an encoder can't have made is
    /// taken as it is.
    pub fn of<'a>(
        announced: Option<&EncodingType>,
        mut texts: impl Iterator<Item = &'a str>,
    ) -> Self {
        Decoder {
            is_encoded: announced == Some(&EncodingType::Url) && texts.all(is_encoded),
        }
    }

    /// Decodes `text` in place; what isn't UTF-8 is replaced.
    pub fn decode(&self, text: &mut Option<String>) {
        let Some(encoded) = text.as_mut().filter(|_| self.is_encoded) else {
            return;
        };
        if !encoded.contains(['%', '+']) {
            return;
        }
        // form encoding, as AWS's: a space is `+`, and `+` is `%2B`
        let spaced = encoded.replace('+', " ");
        let bytes: Cow<'_, [u8]> = percent_decode_str(&spaced).into();
        *encoded = String::from_utf8_lossy(&bytes).into_owned();
    }
}

/// The characters that an encoder may leave: printable ASCII without spaces, and `%` only before two hexadecimal digits.
fn is_encoded(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => is_hex(at + 1) && is_hex(at + 2),
        byte => byte.is_ascii_graphic(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(announced: Option<EncodingType>, text: &str) -> String {
        let decoder = Decoder::of(announced.as_ref(), [text].into_iter());
        let mut text = Some(text.to_owned());
        decoder.decode(&mut text);
        text.expect("there was one")
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        for (text, key) in [
            ("a+b%2Bc/%7E%C3%A9*%25.txt", "a b+c/~é*%.txt"),
            ("ctl%01x", "ctl\u{1}x"),
            ("plain", "plain"),
            // a store that says it encodes and doesn't
            ("100% é", "100% é"),
            ("50%", "50%"),
        ] {
            assert_eq!(decoded(Some(EncodingType::Url), text), key, "{text}");
        }
        assert_eq!(decoded(None, "a+b%41"), "a+b%41");
        assert_eq!(decoded(Some(EncodingType::Url), "%FFx"), "\u{fffd}x");
    }
}
