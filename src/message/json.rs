//! JSON as it is written: into a buffer that each thread grows once, and then into memory of its exact size.

use serde::{Serialize, ser::Error as _};
use std::cell::Cell;

/// A thread keeps no larger buffer than this.
const KEPT: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The bytes of `value` as JSON.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    // Taken and not borrowed: what is written may write JSON itself.
    let mut buffer = BUFFER.take();
    buffer.clear();
    let written = serde_json::to_writer(&mut buffer, value).map(|()| buffer.as_slice().to_vec());
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    written
}

/// The text of `value` as JSON.
pub(crate) fn to_json_text<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    String::from_utf8(to_json(value)?).map_err(serde_json::Error::custom)
}
