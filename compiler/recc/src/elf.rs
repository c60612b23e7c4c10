//! Adds code, data and symbols to a 64-bit ELF executable: no linker.
//!
//! The code becomes a segment of its own, readable and executable, in place of the note segment, at a fresh address behind all
//! others. New symbol and section tables at the end of the file let profilers and debuggers name the kernels.

use crate::launcher::{MAGIC, SECTION, WORDS};
use sha2::{Digest as _, Sha256};

/// A symbol of the added code.
pub(crate) struct Symbol<'s> {
    pub(crate) name: &'s str,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What is added.
pub(crate) struct Addition<'a> {
    pub(crate) code: &'a [u8],
    pub(crate) program: &'a [u8],
    pub(crate) weights: &'a [u8],
    pub(crate) symbols: Vec<Symbol<'a>>,
}

const PAGE: u64 = 4096;
const SECTION_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: usize = 24;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
const READ_EXECUTE: u32 = 5;
/// Type of a section without bytes.
const ZEROED: u32 = 8;

/// Bytes with numbers in them.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn get<const N: usize>(&self, at: usize) -> Result<[u8; N], String> {
        self.bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "the launcher is no whole ELF file".to_owned())
    }
    fn u16(&self, at: usize) -> Result<usize, String> {
        self.get(at).map(|bytes| u16::from_le_bytes(bytes) as usize)
    }
    fn u32(&self, at: usize) -> Result<u32, String> {
        self.get(at).map(u32::from_le_bytes)
    }
    fn u64(&self, at: usize) -> Result<u64, String> {
        self.get(at).map(u64::from_le_bytes)
    }
    fn put(&mut self, at: usize, value: &[u8]) -> Result<(), String> {
        let place = self.bytes.get_mut(at..at + value.len()).ok_or("the launcher is no whole ELF file")?;
        place.copy_from_slice(value);
        Ok(())
    }
    fn put_u64(&mut self, at: usize, value: u64) -> Result<(), String> {
        self.put(at, &value.to_le_bytes())
    }
    fn align(&mut self, to: usize) {
        let len = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(len, 0);
    }
    fn append(&mut self, bytes: &[u8], align: usize) -> u64 {
        self.align(align);
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        at
    }
}

/// A section header's fields that matter here.
struct Section {
    name: String,
    address: u64,
    offset: usize,
    size: usize,
    /// Zeroed memory has no bytes in the file.
    in_file: bool,
}

struct Tables {
    headers: usize,
    names: usize,
    sections: Vec<Section>,
}

impl Tables {
    /// Where the tables begin that are written anew: all that follows the last other section.
    fn begin(&self) -> usize {
        let moved = |name: &str| matches!(name, ".symtab" | ".strtab" | ".shstrtab");
        let others = self.sections.iter().filter(|section| !moved(&section.name) && section.in_file);
        others.map(|section| section.offset + section.size).max().unwrap_or(0)
    }
}

fn sections(image: &Image) -> Result<Tables, String> {
    let (headers, count, names) = (image.u64(40)? as usize, image.u16(60)?, image.u16(62)?);
    let names_at = image.u64(headers + names * SECTION_HEADER + 24)? as usize;
    let mut sections = Vec::new();
    for index in 0..count {
        let at = headers + index * SECTION_HEADER;
        let start = names_at + image.u32(at)? as usize;
        let text = image.bytes.get(start..).unwrap_or_default();
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(0);
        sections.push(Section {
            name: String::from_utf8_lossy(&text[..end]).into_owned(),
            address: image.u64(at + 16)?,
            offset: image.u64(at + 24)? as usize,
            size: image.u64(at + 32)? as usize,
            in_file: image.u32(at + 4)? != ZEROED,
        });
    }
    Ok(Tables { headers, names, sections })
}

/// The launcher with everything added.
pub(crate) fn add(launcher: &[u8], addition: &Addition<'_>) -> Result<Vec<u8>, String> {
    if launcher.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("the launcher is no 64-bit little-endian ELF file".to_owned());
    }
    let launcher = Image { bytes: launcher.to_vec() };
    let tables = sections(&launcher)?;
    let symbols = Symbols::of(&launcher, &tables)?;
    let mut image = launcher;
    if symbols.is_some() {
        image.bytes.truncate(tables.begin());
    }
    let header = tables.sections.iter().find(|section| section.name == SECTION).ok_or("the launcher has no header section")?;
    let (header_at, header_address) = (header.offset, header.address);
    if image.get::<8>(header_at)? != MAGIC {
        return Err("the launcher's header is of another version".to_owned());
    }
    let (note, address) = free_segment(&image)?;
    let mut content = addition.code.to_vec();
    content.extend_from_slice(addition.program);
    content.extend_from_slice(addition.weights);
    name_build(&mut image, &tables, &content)?;
    let offset = image.append(&content, PAGE as usize);
    let segment: [u64; 6] = [offset, address, address, content.len() as u64, content.len() as u64, PAGE];
    image.put(note, &LOAD.to_le_bytes())?;
    image.put(note + 4, &READ_EXECUTE.to_le_bytes())?;
    for (index, value) in segment.into_iter().enumerate() {
        image.put_u64(note + 8 + index * 8, value)?;
    }
    let words: [u64; WORDS] =
        [address.wrapping_sub(header_address), addition.code.len() as u64, addition.program.len() as u64, addition.weights.len() as u64];
    for (index, value) in words.into_iter().enumerate() {
        image.put_u64(header_at + 8 + index * 8, value)?;
    }
    if let Some(symbols) = symbols {
        symbols.add(&mut image, addition, offset, address)?;
    }
    Ok(image.bytes)
}

/// Gives the file a build id of its own. Profilers keep symbols by it, and would show one model's kernels under the names of another's.
fn name_build(image: &mut Image, tables: &Tables, content: &[u8]) -> Result<(), String> {
    // Sizes of name and id, the note's type, and the name `GNU`.
    const HEADER: usize = 16;
    let Some(note) = tables.sections.iter().find(|section| section.name == ".note.gnu.build-id" && section.size > HEADER) else {
        return Ok(());
    };
    let (begin, end) = (note.offset + HEADER, note.offset + note.size);
    let launcher = image.bytes.get(begin..end).unwrap_or_default();
    let id = Sha256::new().chain_update(launcher).chain_update(content).finalize();
    image.put(begin, &id[..id.len().min(end - begin)])
}

/// The note segment's header, and the first free page of addresses.
fn free_segment(image: &Image) -> Result<(usize, u64), String> {
    let (headers, count) = (image.u64(32)? as usize, image.u16(56)?);
    let mut end = 0;
    let mut note = None;
    for index in 0..count {
        let at = headers + index * PROGRAM_HEADER;
        match image.u32(at)? {
            LOAD => end = end.max(image.u64(at + 16)? + image.u64(at + 40)?),
            NOTE => note = Some(at),
            _ => {}
        }
    }
    Ok((note.ok_or("the launcher has no note segment to replace; link it with a build id")?, end.next_multiple_of(PAGE)))
}

fn symbol(name: u32, section: u16, address: u64, len: u64) -> Vec<u8> {
    const GLOBAL_FUNCTION: u8 = 0x12;
    let mut out = name.to_le_bytes().to_vec();
    out.extend([GLOBAL_FUNCTION, 0]);
    out.extend(section.to_le_bytes());
    out.extend(address.to_le_bytes());
    out.extend(len.to_le_bytes());
    out
}

/// The tables that profilers and debuggers read, which move to the end of the file.
struct Symbols {
    symbols: Vec<u8>,
    strings: Vec<u8>,
    names: Vec<u8>,
    headers: Vec<u8>,
    /// Positions of the three among the sections.
    places: [usize; 3],
}

impl Symbols {
    /// Those of the launcher; a stripped one has none.
    fn of(image: &Image, tables: &Tables) -> Result<Option<Symbols>, String> {
        let find = |name: &str| tables.sections.iter().position(|section| section.name == name);
        let (Some(symbols_at), Some(strings_at)) = (find(".symtab"), find(".strtab")) else { return Ok(None) };
        let bytes =
            |at: usize, len: usize| image.bytes.get(at..at + len).map(<[u8]>::to_vec).ok_or("the launcher's tables are damaged".to_owned());
        let copy = |index: usize| bytes(tables.sections[index].offset, tables.sections[index].size);
        let mut symbols = copy(symbols_at)?;
        symbols.truncate(symbols.len() / SYMBOL * SYMBOL);
        Ok(Some(Symbols {
            symbols,
            strings: copy(strings_at)?,
            names: copy(tables.names)?,
            headers: bytes(tables.headers, tables.sections.len() * SECTION_HEADER)?,
            places: [symbols_at, strings_at, tables.names],
        }))
    }

    /// Writes them behind everything else, with the added code's section and symbols.
    fn add(mut self, image: &mut Image, addition: &Addition<'_>, offset: u64, address: u64) -> Result<(), String> {
        let count = self.headers.len() / SECTION_HEADER;
        for own in &addition.symbols {
            self.symbols.extend(symbol(self.strings.len() as u32, count as u16, address + own.offset, own.len));
            self.strings.extend(own.name.as_bytes());
            self.strings.push(0);
        }
        let name = self.names.len() as u32;
        self.names.extend(b".text.recc\0");
        for (index, table) in self.places.into_iter().zip([&self.symbols, &self.strings, &self.names]) {
            let at = image.append(table, 8);
            let header = &mut self.headers[index * SECTION_HEADER..(index + 1) * SECTION_HEADER];
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&(table.len() as u64).to_le_bytes());
        }
        // Program bits, allocated and executable.
        self.headers.extend([name, 1].into_iter().flat_map(u32::to_le_bytes));
        self.headers.extend([6, address, offset, addition.code.len() as u64].into_iter().flat_map(u64::to_le_bytes));
        self.headers.extend([0u8; 8]);
        self.headers.extend([64u64, 0].into_iter().flat_map(u64::to_le_bytes));
        let at = image.append(&self.headers, 8);
        image.put_u64(40, at)?;
        image.put(60, &(count as u16 + 1).to_le_bytes())
    }
}
