//! The canonical header blocks, and a view on foreign ones.
//!
//! A name of up to 100 bytes stands in a plain ustar header. A longer one stands in a pax record
//! `path` before it; the `prefix` field is never used, so that there is one way only. Everything
//! that a header could say about owners and times is zero.

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;
/// Two empty blocks end an archive; nothing follows, not even to fill a record.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Largest size that fits the eleven octal digits of a header; no manifest lists a larger file.
pub(crate) const MAX_SIZE: u64 = 0o77_777_777_777;

/// All blocks that stand before the contents of a file.
pub(crate) fn headers(name: &str, size: u64, mode: u32) -> Vec<u8> {
    if name.len() <= NAME.len() {
        return header(name.as_bytes(), size, mode, b'0').to_vec();
    }
    let record = pax_record(name);
    let mut blocks = header(b"pax-path", record.len() as u64, 0o644, b'x').to_vec();
    blocks.extend_from_slice(&record);
    blocks.resize(blocks.len() + padding(record.len() as u64), 0);
    let cut = name.floor_char_boundary(NAME.len());
    blocks.extend_from_slice(&header(&name.as_bytes()[..cut], size, mode, b'0'));
    blocks
}

/// Zero bytes after contents of `size` bytes, up to the next block.
pub(crate) fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn header(name: &[u8], size: u64, mode: u32, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[NAME][..name.len()].copy_from_slice(name);
    octal(&mut block[MODE], u64::from(mode));
    octal(&mut block[UID], 0);
    octal(&mut block[GID], 0);
    octal(&mut block[SIZE], size);
    octal(&mut block[MTIME], 0);
    block[TYPE] = kind;
    block[MAGIC].copy_from_slice(b"ustar\x0000");
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[CHECKSUM].copy_from_slice(sum.as_bytes());
    block
}

/// Octal digits up to the field's last byte, which stays zero. Sizes were checked to fit.
fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    field[..width].copy_from_slice(format!("{value:0width$o}").as_bytes());
}

/// `"LENGTH path=NAME\n"`, where LENGTH counts itself.
fn pax_record(name: &str) -> Vec<u8> {
    let rest = " path=".len() + name.len() + 1;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} path={name}\n").into_bytes()
}

fn checksum(block: &[u8; BLOCK]) -> u64 {
    let blank = CHECKSUM.len() as u64 * u64::from(b' ');
    let outside = block
        .iter()
        .enumerate()
        .filter(|(at, _)| !CHECKSUM.contains(at));
    blank + outside.map(|(_, byte)| u64::from(*byte)).sum::<u64>()
}

/// A header that is not the expected one, read only to name what is wrong with it.
pub(crate) struct Foreign<'a>(pub(crate) &'a [u8; BLOCK]);

impl Foreign<'_> {
    pub(crate) fn checksum_is_right(&self) -> bool {
        number(&self.0[CHECKSUM]) == Some(checksum(self.0))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    pub(crate) fn size(&self) -> Option<u64> {
        number(&self.0[SIZE])
    }

    pub(crate) fn mode(&self) -> Option<u64> {
        number(&self.0[MODE])
    }

    /// Prefix and name as a reader of ustar joins them.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = until_zero(&self.0[NAME]);
        let is_ustar = self.0[MAGIC].starts_with(b"ustar\0");
        match until_zero(&self.0[PREFIX]) {
            prefix if is_ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    /// Whether bytes stand behind the zero that ends the name: the trick of a name within a name.
    pub(crate) fn name_hides_bytes(&self) -> bool {
        let field = &self.0[NAME];
        field[until_zero(field).len()..]
            .iter()
            .any(|byte| *byte != 0)
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read_by_the_tar_crate(name: &str) -> (Vec<u8>, u64, u32, Vec<u8>) {
        let mut archive = headers(name, 3, 0o755);
        archive.extend_from_slice(b"abc");
        archive.resize(archive.len() + padding(3), 0);
        archive.extend_from_slice(&END);
        let mut archive = tar::Archive::new(&archive[..]);
        let mut entry = archive
            .entries()
            .expect("entries")
            .next()
            .expect("one")
            .expect("readable");
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).expect("contents");
        let mode = entry.header().mode().expect("mode");
        (
            entry.path_bytes().into_owned(),
            entry.size(),
            mode,
            contents,
        )
    }

    #[test]
    fn other_readers_of_tar_understand_short_and_long_names() {
        for length in [1, 99, 100, 101, 255, 256, 980, 990, 1000, 4000] {
            let name = "n".repeat(length);
            let expected = (name.clone().into_bytes(), 3, 0o755, b"abc".to_vec());
            assert_eq!(read_by_the_tar_crate(&name), expected);
        }
        let cyrillic = "файл/".repeat(30) + "ы";
        assert_eq!(read_by_the_tar_crate(&cyrillic).0, cyrillic.as_bytes());
    }

    #[test]
    fn headers_are_whole_blocks_with_a_right_checksum() {
        for name in ["a", &"b".repeat(700)] {
            let blocks = headers(name, MAX_SIZE, 0o644);
            assert_eq!(blocks.len() % BLOCK, 0);
            let last: &[u8; BLOCK] = blocks.last_chunk().expect("a block");
            assert!(Foreign(last).checksum_is_right());
            assert_eq!(Foreign(last).size(), Some(MAX_SIZE));
        }
    }

    #[test]
    fn padding_fills_the_last_block_and_no_more() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
