//! Protobuf's wire, as far as these documents need it: fields are written, never read.

use serde_json::Value;

/// A message in the making: its fields, encoded. Defaults (empty text, false, zero) are left out, as proto3 does.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

impl Message {
    /// A message with one message in it.
    pub fn of(number: u32, inner: Message) -> Self {
        let mut out = Self::default();
        out.message(number, inner);
        out
    }

    pub fn message(&mut self, number: u32, inner: Message) {
        self.bytes(number, &inner.0);
    }

    pub fn string(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// The text of a JSON string.
    pub fn text(&mut self, number: u32, value: &Value) {
        self.string(number, value.as_str().unwrap_or(""));
    }

    /// Each text of a JSON list; here an empty one counts.
    pub fn texts(&mut self, number: u32, value: &Value) {
        for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(number, text.as_bytes());
        }
    }

    pub fn flag(&mut self, number: u32, value: &Value) {
        if value.as_bool() == Some(true) {
            self.tag(number, VARINT);
            self.varint(1);
        }
    }

    /// A number that is not negative.
    pub fn integer(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_u64().filter(|v| *v != 0) {
            self.tag(number, VARINT);
            self.varint(value);
        }
    }

    pub fn double(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_f64().filter(|v| *v != 0.0) {
            self.tag(number, FIXED64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        self.varint(u64::from(number << 3 | wire_type));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
