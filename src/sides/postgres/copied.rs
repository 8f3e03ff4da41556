//! Rows as `COPY … FROM STDIN (FORMAT BINARY)` takes them: each value in the driver's own binary form. Never: which table, which columns.

use sqlx::Postgres;
use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::PgArgumentBuffer;

/// Signature, flags and the length of a header's further part, which there is none of.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Rows of a number of values.
pub struct Copied {
    buffer: PgArgumentBuffer,
    values: i16,
}

impl Copied {
    pub fn of(values: i16) -> Copied {
        let mut buffer = PgArgumentBuffer::default();
        buffer.extend_from_slice(HEAD);
        Copied { buffer, values }
    }

    /// A further row, whose values come next.
    pub fn begin(&mut self) {
        self.buffer.extend_from_slice(&self.values.to_be_bytes());
    }

    /// # Errors
    /// A value that has no binary form.
    pub fn value<'q>(&mut self, value: Option<impl Encode<'q, Postgres>>) -> Result<(), sqlx::Error> {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        let Some(value) = value else { return Ok(()) };
        if let IsNull::Yes = value.encode(&mut self.buffer).map_err(sqlx::Error::Encode)? {
            return Ok(());
        }
        let length = self.buffer.len() - at - 4;
        let length = i32::try_from(length).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        self.buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// All of them, with the mark after the last.
    pub fn end(mut self) -> Vec<u8> {
        self.buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        std::mem::take(&mut *self.buffer)
    }
}
