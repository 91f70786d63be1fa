//! A zip writer that writes whatever it is told.

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    /// Leave it out of the central directory.
    pub(crate) unlisted: bool,
    /// Point at the local header of another entry.
    pub(crate) at_entry: Option<usize>,
}

impl Entry {
    pub(crate) fn new(name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        let name = name.as_ref().to_vec();
        Self {
            local_name: name.clone(),
            name,
            data: data.to_vec(),
            mode: 0o100_644,
            flags: 0x800,
            method: 0,
            crc: crc32(data),
            unlisted: false,
            at_entry: None,
        }
    }

    fn fields(&self, name: &[u8]) -> Vec<u8> {
        let size = (self.data.len() as u32).to_le_bytes();
        let mut out = Vec::new();
        out.extend_from_slice(&20u16.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.method.to_le_bytes());
        out.extend_from_slice(&[0, 0, 0x21, 0]);
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&size);
        out.extend_from_slice(&size);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14\x03".to_vec();
        out.extend_from_slice(&self.fields(&self.name));
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&(self.mode << 16).to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&self.name);
        out
    }
}

/// Local entries, central directory, end.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut offsets = Vec::new();
    for entry in entries {
        offsets.push(out.len() as u32);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&entry.fields(&entry.local_name));
        out.extend_from_slice(&entry.local_name);
        out.extend_from_slice(&entry.data);
    }
    let start = out.len();
    let listed: Vec<_> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !entry.unlisted)
        .collect();
    for (at, entry) in &listed {
        out.extend_from_slice(&entry.central(offsets[entry.at_entry.unwrap_or(*at)]));
    }
    let size = out.len() - start;
    let count = (listed.len() as u16).to_le_bytes();
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&[count, count].concat());
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&(start as u32).to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

/// Bit by bit, as the definition has it.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
