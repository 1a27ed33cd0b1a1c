//! Netlink attributes: `[length u16][type u16][value][padding to 4]`, nested at will.
//!
//! nf_tables' numbers are big endian, unlike most of netlink's.

pub(crate) use crate::error::Malformed;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: without the two flag bits.
const TYPE: u16 = 0x3fff;
const HEADER: usize = 4;

/// Writes messages and attributes into one buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// One netlink message: header, `nfgenmsg` (a family and a resource id), attributes.
    pub(crate) fn message(&mut self, head: &Head, body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(head.kind.to_ne_bytes());
        self.0.extend(head.flags.to_ne_bytes());
        self.0.extend(head.sequence.to_ne_bytes());
        self.0.extend([0; 4]);
        self.0.extend([head.family, 0]);
        self.0.extend(head.resource.to_be_bytes());
        body(self);
        let length = self.0.len() - start;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a message holds a few attributes of at most 64 KiB"
        )]
        let length = length as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.0.extend(value));
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.0.extend(value.as_bytes());
            writer.0.push(0);
        });
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    /// A comment as `nft` keeps one in userdata: `[type 0][length][text NUL]`. Text beyond 127
    /// bytes, which `nft` would not show, is cut.
    pub(crate) fn comment(&mut self, kind: u16, text: &str) {
        let text = text.get(..127).unwrap_or(text).as_bytes();
        let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
        self.attribute(kind, |writer| {
            writer.0.extend([shunt_abi::TableMark::COMMENT, length]);
            writer.0.extend(text);
            writer.0.push(0);
        });
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        body(self);
        let length = self.0.len() - start;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "callers split long lists well below 64 KiB (encode::ELEMENTS_PER_MESSAGE)"
        )]
        let length = length as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The fixed parts of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    pub(crate) resource: u16,
}

/// Bytes of netlink header and `nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;

/// Walks over attributes. Ends after the first one that is cut short, which it reports.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// One attribute, flag bits of its type removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0 = &[];
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed("attribute header cut short")));
        };
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE;
        let Some(value) = bytes.get(HEADER..length) else {
            return Some(Err(Malformed("attribute length out of bounds")));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(Attribute { kind, value }))
    }
}

impl<'a> Attribute<'a> {
    pub(crate) fn nested(self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    pub(crate) fn be32(self) -> Result<u32, Malformed> {
        let bytes = self.value.try_into();
        bytes
            .map(u32::from_be_bytes)
            .map_err(|_length| Malformed("number is not 32 bits long"))
    }

    pub(crate) fn be64(self) -> Result<u64, Malformed> {
        let bytes = self.value.try_into();
        bytes
            .map(u64::from_be_bytes)
            .map_err(|_length| Malformed("number is not 64 bits long"))
    }

    pub(crate) fn string(self) -> Result<&'a str, Malformed> {
        let text = self.value.strip_suffix(&[0]).unwrap_or(self.value);
        std::str::from_utf8(text).map_err(|_position| Malformed("text is not UTF-8"))
    }

    /// The comment in userdata that `nft` or [`Writer::comment`] wrote; `None` if there is none.
    pub(crate) fn comment(self) -> Option<&'a str> {
        let mut rest = self.value;
        while let [kind, length, tail @ ..] = rest {
            let value = tail.get(..usize::from(*length))?;
            if *kind == shunt_abi::TableMark::COMMENT {
                return std::str::from_utf8(value.strip_suffix(&[0])?).ok();
            }
            rest = &tail[value.len()..];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Malformed, Writer};
    use proptest::prelude::*;

    #[test]
    fn nested_attributes_read_back_as_written() {
        let mut writer = Writer::default();
        writer.string(1, "shunt");
        writer.nest(2, |writer| writer.be32(3, 7));
        writer.comment(4, "a key");
        let bytes = writer.into_bytes();
        let read: Vec<_> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(read[0].string(), Ok("shunt"));
        assert_eq!(read[1].kind, 2);
        let inner: Vec<_> = read[1].nested().map(Result::unwrap).collect();
        assert_eq!((inner[0].kind, inner[0].be32()), (3, Ok(7)));
        assert_eq!(read[2].comment(), Some("a key"));
    }

    #[test]
    fn a_length_beyond_the_end_or_below_the_header_is_reported_once() {
        for length in [3u8, 9, 255] {
            let read: Vec<_> = Attributes::new(&[length, 0, 1, 0, 1, 2, 3, 4])
                .map(|attribute| attribute.map(|attribute| attribute.kind))
                .collect();
            assert_eq!(read, [Err(Malformed("attribute length out of bounds"))]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for attribute in Attributes::new(&bytes).flatten() {
                let _comment = attribute.comment();
                let _text = attribute.string();
                for inner in attribute.nested().flatten() {
                    let _number = inner.be32();
                }
            }
        }
    }
}
