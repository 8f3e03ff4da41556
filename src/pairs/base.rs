//! What a pair remembers per field, packed: the base, and the values a manual conflict was listed with.

/// Per field, by the fingerprint of its lens, the hash of the canonical value both sides last agreed on. A field that is
/// not in it has no base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base(Vec<(u32, u64)>);

const ENTRY: usize = 12;

/// Under this fingerprint, which no field has, a base keeps when its legacy record was made.
pub const CREATED_AT: u32 = u32::MAX;

impl Base {
    pub fn of(entries: impl IntoIterator<Item = (u32, u64)>) -> Base {
        Base(entries.into_iter().collect())
    }

    pub fn get(&self, fingerprint: u32) -> Option<u64> {
        self.0.iter().find(|entry| entry.0 == fingerprint).map(|entry| entry.1)
    }

    /// The same with this entry, or without it.
    pub fn with(mut self, fingerprint: u32, hash: Option<u64>) -> Base {
        self.0.retain(|entry| entry.0 != fingerprint);
        self.0.extend(hash.map(|hash| (fingerprint, hash)));
        self
    }

    /// What is kept under other fingerprints than these: of fields that are mapped no more, or otherwise.
    pub fn others(&self, fingerprints: &[u32]) -> Vec<(u32, u64)> {
        let others = self.0.iter().filter(|entry| entry.0 != CREATED_AT && !fingerprints.contains(&entry.0));
        others.copied().collect()
    }

    /// Whether no field has a base.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|entry| entry.0 == CREATED_AT)
    }

    /// Fingerprint (4 bytes) and hash (8 bytes) per field, big end first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY);
        for (fingerprint, hash) in &self.0 {
            bytes.extend_from_slice(&fingerprint.to_be_bytes());
            bytes.extend_from_slice(&hash.to_be_bytes());
        }
        bytes
    }

    /// Bytes that are no whole number of entries were not written by us; their fields have no base.
    pub fn decode(bytes: &[u8]) -> Base {
        Base(bytes.chunks_exact(ENTRY).map(|entry| (be32(entry), be64(&entry[4..]))).collect())
    }
}

/// Per field of an open manual conflict, the hashes of the legacy and the platform value it was listed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed(Vec<(u32, u64, u64)>);

impl Listed {
    pub fn of(entries: impl IntoIterator<Item = (u32, u64, u64)>) -> Listed {
        Listed(entries.into_iter().collect())
    }

    pub fn holds(&self, fingerprint: u32, legacy: u64, platform: u64) -> bool {
        self.0.contains(&(fingerprint, legacy, platform))
    }

    /// Whether a person is to decide about the field.
    pub fn has(&self, fingerprint: u32) -> bool {
        self.0.iter().any(|(listed, ..)| *listed == fingerprint)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `None` for nothing listed, as the column is NULL then.
    pub fn encode(&self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| {
            let mut bytes = Vec::with_capacity(self.0.len() * (ENTRY + 8));
            for (fingerprint, legacy, platform) in &self.0 {
                bytes.extend_from_slice(&fingerprint.to_be_bytes());
                bytes.extend_from_slice(&legacy.to_be_bytes());
                bytes.extend_from_slice(&platform.to_be_bytes());
            }
            bytes
        })
    }

    pub fn decode(bytes: &[u8]) -> Listed {
        Listed(
            bytes.chunks_exact(ENTRY + 8).map(|entry| (be32(entry), be64(&entry[4..]), be64(&entry[12..]))).collect(),
        )
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_survives_its_bytes() {
        let base = Base::of([(7, u64::MAX), (u32::MAX, 1)]);
        assert_eq!(Base::decode(&base.encode()), base);
        assert_eq!(base.get(7), Some(u64::MAX));
        assert_eq!(base.get(8), None);
        let listed = Listed::of([(1, 2, 3)]);
        assert_eq!(Listed::decode(&listed.encode().expect("not empty")), listed);
    }
}
