//! Avro object container files with zstd, written and read block by block (Avro 1.12 specification, "Object Container
//! Files").
//!
//! A file says nothing of when or where it was written: the same records give the same bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use solyx_schemas::hash::Hash32;

use super::avro::{write_bytes, write_long};
use super::manifest::FilePart;

const MAGIC: &[u8; 4] = b"Obj\x01";
const SYNC_LEN: usize = 16;
/// A block is written when it has this many bytes or records, before compression.
const BLOCK_BYTES: usize = 256 << 10;
const BLOCK_RECORDS: u64 = 8192;
/// No block is larger than this, compressed or not: the largest record and a block before it fit well.
const BLOCK_BYTES_MAX: u64 = 64 << 20;
/// No header is larger than this, and none says more beside the schema.
const HEADER_BYTES_MAX: u64 = 16 << 20;
const METADATA_MAX: usize = 1_024;
const ZSTD_LEVEL: i32 = 3;

/// A file being written.
pub(super) struct ContainerWriter {
    file: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
    parts: Vec<FilePart>,
    sync: [u8; SYNC_LEN],
    block: Vec<u8>,
    records: u64,
    compressor: zstd::bulk::Compressor<'static>,
}

impl ContainerWriter {
    /// A new file of this schema; `about` tells files apart whose schema is the same, and is kept as metadata.
    pub(super) fn create(path: &Path, schema: &Value, about: &[(&str, String)]) -> io::Result<Self> {
        let mut metadata = vec![("avro.schema", schema.to_string()), ("avro.codec", "zstandard".to_owned())];
        metadata.extend(about.iter().map(|(name, value)| (*name, value.clone())));
        let mut header = MAGIC.to_vec();
        write_long(metadata.len() as i64, &mut header);
        for (name, value) in &metadata {
            write_bytes(name.as_bytes(), &mut header);
            write_bytes(value.as_bytes(), &mut header);
        }
        write_long(0, &mut header);
        // The marker may be anything that does not turn up in a block by chance; a hash keeps equal files equal.
        let mut sync = [0; SYNC_LEN];
        sync.copy_from_slice(&Sha256::digest(&header)[..SYNC_LEN]);
        header.extend_from_slice(&sync);
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(true)?;
        let file = BufWriter::with_capacity(256 << 10, File::create_new(path)?);
        let (hasher, block) = (Sha256::new(), Vec::with_capacity(BLOCK_BYTES * 2));
        let parts = Vec::new();
        let mut writer = Self { file, hasher, bytes: 0, parts, sync, block, records: 0, compressor };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes a part.
    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        let bytes = part.len() as u64;
        self.hasher.update(part);
        self.bytes += bytes;
        self.parts.push(FilePart { bytes, records: self.records, sha256: Hash32(Sha256::digest(part).into()) });
        self.file.write_all(part)
    }

    /// Appends what `row` writes as one record.
    pub(super) fn append(&mut self, row: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        row(&mut self.block);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES || self.records >= BLOCK_RECORDS {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let compressed = self.compressor.compress(&self.block)?;
        let mut block = Vec::with_capacity(compressed.len() + 20 + SYNC_LEN);
        write_long(self.records as i64, &mut block);
        write_long(compressed.len() as i64, &mut block);
        block.extend_from_slice(&compressed);
        block.extend_from_slice(&self.sync);
        self.put(&block)?;
        self.block.clear();
        self.records = 0;
        Ok(())
    }

    /// Puts the file on disk for good; its length, hash and parts.
    pub(super) fn finish(mut self) -> io::Result<(u64, Hash32, Vec<FilePart>)> {
        self.end_block()?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.bytes, Hash32(self.hasher.finalize().into()), self.parts))
    }
}

/// A file being read.
pub(super) struct ContainerReader {
    file: BufReader<File>,
    /// Its metadata: the schema among it.
    pub(super) metadata: Vec<(String, Vec<u8>)>,
    sync: [u8; SYNC_LEN],
    /// Where the first block begins.
    pub(super) first_block: u64,
}

/// Where a block's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockPlace {
    pub(super) at: u64,
    pub(super) records: u64,
    len: u64,
}

impl BlockPlace {
    /// Where the block ends, behind its marker.
    pub(super) fn end(&self) -> u64 {
        self.at + self.len + SYNC_LEN as u64
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl ContainerReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(wrong("it does not begin as an Avro object container file"));
        }
        let mut header = Read::take(&mut file, HEADER_BYTES_MAX);
        let mut metadata = Vec::new();
        loop {
            let count = read_long(&mut header)?;
            if count == 0 {
                break;
            }
            if count < 0 {
                read_long(&mut header)?;
            }
            for _ in 0..count.unsigned_abs() {
                if metadata.len() == METADATA_MAX {
                    return Err(wrong(format!("its header says more than {METADATA_MAX} things")));
                }
                let name =
                    String::from_utf8(read_bytes(&mut header)?).map_err(|_| wrong("a metadata key is not UTF-8"))?;
                metadata.push((name, read_bytes(&mut header)?));
            }
        }
        let mut sync = [0; SYNC_LEN];
        header.read_exact(&mut sync)?;
        let first_block = file.stream_position()?;
        let reader = Self { file, metadata, sync, first_block };
        match reader.metadata("avro.codec") {
            Some(b"zstandard") => Ok(reader),
            _ => Err(wrong("its codec is not zstandard")),
        }
    }

    pub(super) fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.metadata.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// The schema of its rows.
    pub(super) fn schema(&self) -> io::Result<Value> {
        let schema = self.metadata("avro.schema").ok_or_else(|| wrong("it has no schema"))?;
        serde_json::from_slice(schema).map_err(|e| wrong(format!("its schema is not JSON: {e}")))
    }

    /// The places of all blocks, by their heads only.
    pub(super) fn places(&mut self) -> io::Result<Vec<BlockPlace>> {
        let len = self.file.get_ref().metadata()?.len();
        let mut places = Vec::new();
        let mut at = self.first_block;
        while at < len {
            self.file.seek(SeekFrom::Start(at))?;
            let place = self.head()?;
            at = place.end();
            places.push(place);
        }
        if at > len {
            return Err(wrong(format!("its last block ends at byte {at}, the file at {len}")));
        }
        Ok(places)
    }

    fn head(&mut self) -> io::Result<BlockPlace> {
        let records =
            u64::try_from(read_long(&mut self.file)?).map_err(|_| wrong("a block has fewer than no records"))?;
        let len = u64::try_from(read_long(&mut self.file)?).unwrap_or(u64::MAX);
        if len > BLOCK_BYTES_MAX {
            return Err(wrong("a block is too large"));
        }
        Ok(BlockPlace { at: self.file.stream_position()?, records, len })
    }

    /// The bytes of a part as they are, as far as they are there.
    pub(super) fn part(&mut self, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
        self.seek(at)?;
        let mut part = Vec::new();
        Read::take(&mut self.file, bytes).read_to_end(&mut part)?;
        Ok(part)
    }

    /// The records of a block that was read whole, in place of what `out` held; how many it says.
    pub(super) fn unpack(&self, part: &[u8], out: &mut Vec<u8>) -> io::Result<u64> {
        let mut rest = part;
        let records = u64::try_from(read_long(&mut rest)?).map_err(|_| wrong("a block has fewer than no records"))?;
        let len = usize::try_from(read_long(&mut rest)?).ok().filter(|len| rest.len() == len.saturating_add(SYNC_LEN));
        let (compressed, sync) = rest.split_at(len.ok_or_else(|| wrong("a block is not as long as it says"))?);
        if sync != self.sync {
            return Err(wrong("a block does not end with the file's marker"));
        }
        decompress(compressed, out)?;
        Ok(records)
    }

    /// Goes to a place, which is mostly where it is.
    fn seek(&mut self, at: u64) -> io::Result<()> {
        let here = self.file.stream_position()?;
        self.file.seek_relative(at.cast_signed() - here.cast_signed())
    }

    /// The records of a block, in place of what `out` held.
    pub(super) fn block(&mut self, place: BlockPlace, out: &mut Vec<u8>) -> io::Result<()> {
        self.seek(place.at)?;
        let mut compressed = vec![0; usize::try_from(place.len).map_err(|_| wrong("a block is too large"))?];
        self.file.read_exact(&mut compressed)?;
        let mut sync = [0; SYNC_LEN];
        self.file.read_exact(&mut sync)?;
        if sync != self.sync {
            return Err(wrong("a block does not end with the file's marker"));
        }
        decompress(&compressed, out)
    }
}

fn decompress(compressed: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    zstd::stream::read::Decoder::with_buffer(compressed)?.take(BLOCK_BYTES_MAX).read_to_end(out)?;
    Ok(())
}

fn read_long(input: &mut impl Read) -> io::Result<i64> {
    let mut value = 0u64;
    for place in 0..10 {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(wrong("an integer is longer than ten bytes"))
}

fn read_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let len = u64::try_from(read_long(input)?).map_err(|_| wrong("a length is negative"))?;
    let mut bytes = Vec::new();
    input.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
