//! Rows of a Parquet file, a document each.

use super::{At, Each, Piece};
use crate::data::{DataError, files::Found};
use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that are read at once.
const ROWS: usize = 256;

pub(super) fn pieces(
    found: &Found,
    file: File,
    field: &str,
    read_bytes: &AtomicU64,
    each: &mut Each<'_>,
) -> Result<u64, DataError> {
    let size = file.metadata().map_or(0, |m| m.len());
    let unreadable =
        |e: ParquetError| DataError::read(&found.path, io::Error::other(format!("Parquet: {e}")));
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    let metadata = reader.metadata();
    let column = column(metadata.file_metadata().schema_descr(), field).map_err(|message| {
        DataError::Column {
            path: found.path.clone(),
            message,
        }
    })?;
    let groups = reader.num_row_groups();
    let (mut row, mut skipped, mut counted) = (0, 0, 0);
    for group in 0..groups {
        let reader = reader.get_row_group(group).map_err(unreadable)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) =
            reader.get_column_reader(column).map_err(unreadable)?
        else {
            unreachable!("the column holds byte arrays");
        };
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        loop {
            levels.clear();
            values.clear();
            let (rows, _, _) = reader
                .read_records(ROWS, Some(&mut levels), None, &mut values)
                .map_err(unreadable)?;
            if rows == 0 {
                break;
            }
            let most = metadata.file_metadata().schema_descr().column(column);
            let most = most.max_def_level();
            let mut values = values.iter();
            for i in 0..rows {
                row += 1;
                // A column without nulls has no levels.
                let null = most > 0 && levels.get(i).is_none_or(|&level| level < most);
                match (null, if null { None } else { values.next() }) {
                    (false, Some(value)) => each(Piece {
                        text: value.data(),
                        last: true,
                        at: At::Row(row),
                    })?,
                    _ => skipped += 1,
                }
            }
        }
        // Other columns are passed over, so the share of the groups stands for the bytes.
        let share = size * (group as u64 + 1) / groups as u64;
        read_bytes.fetch_add(share - counted, Ordering::Relaxed);
        counted = share;
    }
    Ok(skipped)
}

/// The column at the path `field`, or what is wrong with it.
fn column(schema: &SchemaDescriptor, field: &str) -> Result<usize, String> {
    let columns = schema.columns();
    let strings = || {
        let strings = columns
            .iter()
            .filter(|c| c.physical_type() == Type::BYTE_ARRAY && c.max_rep_level() == 0);
        let names: Vec<String> = strings.map(|c| c.path().string()).collect();
        match names.is_empty() {
            true => "it has no column of strings".to_string(),
            false => format!("its columns of strings are '{}'", names.join("', '")),
        }
    };
    let Some(index) = columns.iter().position(|c| c.path().string() == field) else {
        return Err(format!("has no column '{field}'; {}", strings()));
    };
    let column = &columns[index];
    if column.max_rep_level() > 0 {
        return Err(format!(
            "the column '{field}' holds lists, not strings; {}",
            strings()
        ));
    }
    match column.physical_type() {
        Type::BYTE_ARRAY => Ok(index),
        other => Err(format!(
            "the column '{field}' is of type {other}, not strings; {}",
            strings()
        )),
    }
}
