//! What goes ahead of a message: which exchange it belongs to and what it holds.

use super::super::exchange::{Content, Kind, Operation};
use burn::tensor::DType;

/// The dtypes of float tensors, by their code less 1; 0 means bytes.
const DTYPES: [DType; 5] = [
    DType::F64,
    DType::F32,
    DType::Flex32,
    DType::F16,
    DType::BF16,
];

/// What goes ahead of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) operation: Operation,
    pub(super) content: Content,
    /// The tag under which the content follows, unless it comes with the header.
    pub(super) tag: i32,
}

impl Header {
    pub(super) const BYTES: usize = 7 * 8;

    /// Contents up to this size come with the header.
    const INLINE: usize = 4096;

    pub(super) fn holds_content(&self) -> bool {
        self.content.bytes() <= Self::INLINE
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Operation {
            group,
            number,
            kind,
        } = self.operation;
        let (kind, argument) = match kind {
            Kind::Shift { by } => (0, by),
            Kind::Reduce { len } => (1, len),
            Kind::Gather => (2, 0),
            Kind::ToAll => (3, 0),
            Kind::GatherBytes => (4, 0),
            Kind::Barrier => (5, 0),
            Kind::Subgroup => (6, 0),
        };
        let dtype = self.content.dtype.map_or(0, |dtype| {
            let code = DTYPES.iter().position(|&d| d == dtype);
            1 + code.expect("a float tensor has a float dtype")
        });
        let words = [
            group,
            number,
            kind,
            argument as u64,
            dtype as u64,
            self.content.len as u64,
            self.tag as u64,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// None if it is no header: then the other side runs another version of this program.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.get(..Self::BYTES)?.as_chunks::<8>();
        let word = |i: usize| u64::from_le_bytes(words[i]);
        let kind = match word(2) {
            0 => Kind::Shift {
                by: word(3) as usize,
            },
            1 => Kind::Reduce {
                len: word(3) as usize,
            },
            2 => Kind::Gather,
            3 => Kind::ToAll,
            4 => Kind::GatherBytes,
            5 => Kind::Barrier,
            6 => Kind::Subgroup,
            _ => return None,
        };
        let dtype = match word(4) as usize {
            0 => None,
            code => Some(*DTYPES.get(code - 1)?),
        };
        Some(Self {
            operation: Operation {
                group: word(0),
                number: word(1),
                kind,
            },
            content: Content {
                dtype,
                len: word(5) as usize,
            },
            tag: word(6) as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        for (i, kind) in [
            Kind::Shift { by: 3 },
            Kind::Reduce { len: 1 << 40 },
            Kind::Gather,
            Kind::ToAll,
            Kind::GatherBytes,
            Kind::Barrier,
            Kind::Subgroup,
        ]
        .into_iter()
        .enumerate()
        {
            let header = Header {
                operation: Operation {
                    group: u64::MAX - i as u64,
                    number: 7,
                    kind,
                },
                content: Content {
                    dtype: [None, Some(DType::F16), Some(DType::BF16)][i % 3],
                    len: i << 33,
                },
                tag: 1000 + i as i32,
            };
            let bytes = header.encode();
            assert_eq!(bytes.len(), Header::BYTES);
            assert_eq!(Header::decode(&bytes), Some(header));
            assert_eq!(Header::decode(&bytes[1..]), None);
        }
    }
}
