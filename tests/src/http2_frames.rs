//! Frames of HTTP/2 (RFC 9113), as a caller sends them that no library would let through.

/// What every connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Flag of `DATA` and `HEADERS`.
pub const END_STREAM: u8 = 1;
/// Flag of `HEADERS` and `CONTINUATION`.
pub const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `SETTINGS` with one setting.
pub fn settings(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    frame(4, 0, 0, &payload)
}

/// `HEADERS`, and `CONTINUATION` where they do not fit into one frame.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    header_frames(stream, flags, &field_block(&fields))
}

/// A field block in as many frames as it needs: a frame holds 16 KiB.
pub fn header_frames(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    if block.is_empty() {
        return frame(1, flags | END_HEADERS, stream, block);
    }
    let mut parts = block.chunks(16_384).peekable();
    let mut frames = Vec::new();
    let mut kind = 1;
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        let flags = if kind == 1 { flags | end } else { end };
        frames.extend(frame(kind, flags, stream, part));
        kind = 9;
    }
    frames
}

/// Every field written out (RFC 7541 §6.2.2).
pub fn field_block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(*text);
        }
    }
    block
}

/// With a prefix of 7 bits (RFC 7541 §5.1).
fn length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128 + 128).unwrap());
        length /= 128;
    }
    block.push(u8::try_from(length).unwrap());
}
