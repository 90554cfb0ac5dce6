//! TensorBoard's event files: records of protocol buffers with checksums.
//!
//! Only what scalars need is written, by hand: an `Event` is wall time (field 1, double), step (2,
//! varint) and one of a version (3, string), a summary (5) or a session's state (7); a summary is a
//! list of values (1), each a tag (1, string) with a number (2, float).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes scalars for TensorBoard.
pub(super) struct Events<W> {
    out: W,
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

impl Events<File> {
    /// A new file in `folder`, whose events go on after `steps` steps: those of later steps in earlier
    /// files do not count any more.
    pub fn create(folder: &Path, steps: usize) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (seconds, process) = (now() as u64, std::process::id());
        // TensorBoard knows its files by "tfevents.SECONDS"; a run that goes on within the second needs
        // another name.
        let name = (0..).map(|n| format!("events.out.tfevents.{seconds}.{}.{process}.{n}", host()));
        for path in name.map(|name| folder.join(name)) {
            match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => return Self::begin(file?, steps),
            }
        }
        unreachable!("the names do not end")
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = name.trim().chars().filter(plain).collect();
    match name.is_empty() {
        true => "host".into(),
        false => name,
    }
}

impl<W: Write> Events<W> {
    fn begin(mut out: W, steps: usize) -> io::Result<Self> {
        let mut version = Message::event(0);
        version.bytes(3, b"brain.Event:2");
        out.write_all(&record(&version.0))?;
        if steps > 0 {
            // SessionLog.START: TensorBoard drops what earlier files say of this step and later ones.
            let mut session = Message::default();
            session.varint(1, 1);
            let mut event = Message::event(steps + 1);
            event.bytes(7, &session.0);
            out.write_all(&record(&event.0))?;
        }
        out.flush()?;
        Ok(Self { out })
    }

    /// Writes the numbers of `step`, each with its tag.
    pub fn scalars<'a>(
        &mut self,
        step: usize,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, number) in values {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.key(2, 5);
            value.0.extend((number as f32).to_le_bytes());
            summary.bytes(1, &value.0);
        }
        let mut event = Message::event(step);
        event.bytes(5, &summary.0);
        self.out.write_all(&record(&event.0))?;
        self.out.flush()
    }
}

/// A protocol buffer that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(step: usize) -> Self {
        let mut event = Self::default();
        event.key(1, 1);
        event.0.extend(now().to_le_bytes());
        event.varint(2, step as u64);
        event
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.raw_varint(field << 3 | kind);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

/// TensorFlow's record: length, its checksum, the data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// The checksum as records have it: rotated and shifted, since data may hold checksums itself.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and its masked form by the definition.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(masked(&[0; 32]), 0x6d55_1522u32.wrapping_add(0xa282_ead8));
    }

    /// The records of a file, their checksums checked by hand.
    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let unmask = |masked: u32| masked.wrapping_sub(0xa282_ead8).rotate_left(15);
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let mut records = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            assert_eq!(unmask(word(&file[8..12])), crc32c::crc32c(&file[..8]));
            let data = &file[12..12 + length];
            let checksum = word(&file[12 + length..16 + length]);
            assert_eq!(unmask(checksum), crc32c::crc32c(data));
            records.push(data.to_vec());
            file = &file[16 + length..];
        }
        records
    }

    /// The fields of a message: number and content.
    fn fields(mut data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = data[0];
                *data = &data[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut data).to_le_bytes();
                    fields.push((key >> 3, value.to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                _ => varint(&mut data) as usize,
            };
            fields.push((key >> 3, data[..length].to_vec()));
            data = &data[length..];
        }
        fields
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut file = Vec::new();
        let mut events = Events::begin(&mut file, 300).unwrap();
        events
            .scalars(301, [("train/loss", 2.5), ("train/learning rate", 1e-3)])
            .unwrap();
        let records = records(&file);
        assert_eq!(records.len(), 3);
        assert_eq!(fields(&records[0])[2], (3, b"brain.Event:2".to_vec()));
        let start = fields(&records[1]);
        assert_eq!(start[1], (2, 301u64.to_le_bytes().to_vec()));
        assert_eq!(start[2].0, 7);
        let event = fields(&records[2]);
        assert_eq!(event[1], (2, 301u64.to_le_bytes().to_vec()));
        let values = fields(&event[2].1);
        assert_eq!(values.len(), 2);
        let value = fields(&values[0].1);
        assert_eq!(value[0], (1, b"train/loss".to_vec()));
        assert_eq!(value[1], (2, 2.5f32.to_le_bytes().to_vec()));
    }
}
