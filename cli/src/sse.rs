//! Server-sent events, as far as the coordinator's stream uses them (WHATWG HTML, section 9.2.6).

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// None: the stream gave none so far.
    pub id: Option<String>,
    pub data: String,
}

/// Bytes in, events out, whatever the pieces in which they arrive.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    id: Option<String>,
}

/// A longer line is no event of ours.
const LONGEST_LINE: usize = 16 << 20;

impl Parser {
    /// The events that `bytes` complete. Err: a line without an end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, String> {
        let mut frames = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            frames.extend(self.take(&String::from_utf8_lossy(&line)));
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LONGEST_LINE {
            return Err(format!("a line of the event stream is longer than {LONGEST_LINE} bytes"));
        }
        Ok(frames)
    }

    fn take(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| Frame { id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments keep the connection alive; other fields are not ours.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_the_same_in_whatever_pieces_the_bytes_arrive() {
        let text = ": hello\n\nid: 7\ndata: {\"a\":1}\n\nevent: x\r\nid: 8\r\ndata: two\r\ndata: lines\r\n\r\n";
        let whole = Parser::default().push(text.as_bytes()).unwrap();
        let frame = |id: &str, data: &str| Frame { id: Some(id.into()), data: data.into() };
        assert_eq!(whole, [frame("7", "{\"a\":1}"), frame("8", "two\nlines")]);
        let mut parser = Parser::default();
        let bytewise: Vec<Frame> = text.bytes().flat_map(|byte| parser.push(&[byte]).unwrap()).collect();
        assert_eq!(bytewise, whole);
    }

    #[test]
    fn an_event_without_its_blank_line_has_not_happened() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(b"id: 1\ndata: half").unwrap(), []);
        assert_eq!(parser.push(b"\n\n").unwrap().len(), 1);
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_all_of_the_memory() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1 << 20];
        assert!((0..17).any(|_| parser.push(&chunk).is_err()));
    }
}
