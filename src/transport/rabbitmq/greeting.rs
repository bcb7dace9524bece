//! Connection.Start, the broker's first words (AMQP 0-9-1, section 1.4.2.1): the client keeps none of it, and the version is in it.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// A broker that is there greets at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// A greeting has some hundred bytes.
const MOST: usize = 4_096;

/// `3.10.8`; `None` if it does not say. Blocks, on a connection of its own that ends before a login.
pub(super) fn version(host: &str, port: u16) -> Option<String> {
    let address = (host, port).to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"AMQP\0\0\x09\x01").ok()?;
    let mut said = Vec::new();
    let mut piece = [0; MOST];
    while said.len() < MOST {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => said.extend_from_slice(&piece[..read]),
            _ => break,
        }
        if let Some(version) = among(&said) {
            return Some(version);
        }
    }
    None
}

/// The property `version`: its name as a short string, then `S`, the length and the text.
fn among(said: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let begin = said.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let length = u32::from_be_bytes(said.get(begin..begin + 4)?.try_into().ok()?) as usize;
    let text = said.get(begin + 4..begin.checked_add(4)?.checked_add(length)?)?;
    let is_plain = |text: &&str| text.len() <= 40 && text.chars().all(|c| c.is_ascii_graphic());
    std::str::from_utf8(text).ok().filter(is_plain).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_the_properties() {
        let greeting =
            b"\x01\0\0\0\0\0\x20\0\x0a\0\x0a\0\x09\0\0\0\x30\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8";
        assert_eq!(among(greeting).as_deref(), Some("3.10.8"));
        for cut in 0..greeting.len() {
            assert_eq!(among(&greeting[..cut]), None, "{cut} bytes have come");
        }
        assert_eq!(among(b"\x07versionS\xff\xff\xff\xff3.10.8"), None);
        assert_eq!(among(b"\x07versionS\0\0\0\x02\x1b["), None, "what would speak to a terminal");
    }
}
