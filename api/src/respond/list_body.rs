//! A list on its way out: the objects' own bytes, or what is made of them, joined chunk by chunk while the client takes
//! them.
//!
//! Nothing is held but a reference to each object, so a list of 100 MiB costs one chunk of memory. The length of a list of
//! objects is known before the first byte leaves; other shapes are made as they go, the first chunk beforehand, so that
//! a short list has a length, and a long one is known to be long.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;
use model::{Object, slim};

use crate::table::{self, Table};

/// How much of the list one frame carries, in bytes; an object longer than that makes a longer frame.
const CHUNK: usize = 128 * 1024;

/// What stands after the last item.
pub const TAIL: &[u8] = b"]}";

/// What becomes of an object in a list.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    Object,
    /// Without what decides about neither traffic nor names.
    Slim,
    /// `PartialObjectMetadata`, in this version.
    Metadata(&'static str),
    Row(Table, Timestamp),
}

impl Item {
    fn write(self, out: &mut Vec<u8>, object: &Arc<Object>) {
        match self {
            Self::Object => out.extend_from_slice(&object.bytes),
            Self::Slim => slim::write(object, out),
            Self::Metadata(version) => table::partial_metadata(out, object, version),
            Self::Row(table, now) => table.row(out, object, now),
        }
    }
}

/// A list that has not been sent yet, or the rest of one.
pub struct ListBody {
    item: Item,
    objects: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    /// What has been made already.
    ready: Vec<u8>,
    /// Whether `ready` is all that is left.
    ended: bool,
    /// Bytes still to come, where that is known.
    left: Option<usize>,
}

impl ListBody {
    /// `head` is everything before the first item, `[` included.
    pub fn new(head: Vec<u8>, item: Item, objects: Vec<Arc<Object>>) -> Self {
        let left = matches!(item, Item::Object).then(|| {
            let items: usize = objects.iter().map(|o| o.bytes.len()).sum();
            head.len() + items + objects.len().saturating_sub(1) + TAIL.len()
        });
        let mut body = Self { item, objects: objects.into_iter(), first: true, ready: head, ended: false, left };
        if body.left.is_none() {
            body.make(CHUNK);
            body.left = body.ended.then_some(body.ready.len());
        }
        body
    }

    /// The whole list at once.
    pub fn gather(mut self) -> Bytes {
        self.make(usize::MAX);
        Bytes::from(self.ready)
    }

    /// Makes more of the list, until there is `most`, or all of it.
    fn make(&mut self, most: usize) {
        let room = self.left.map_or(most, |left| left.min(most));
        if room < usize::MAX {
            self.ready.reserve(room.saturating_sub(self.ready.len()));
        }
        while !self.ended && self.ready.len() < most {
            // An object that would make a chunk grow is left to the next one.
            let next = self.objects.as_slice().first().map_or(0, |object| object.bytes.len());
            let fits = self.ready.len().saturating_add(next + 1 + TAIL.len()) <= most;
            if matches!(self.item, Item::Object) && !fits && !self.ready.is_empty() {
                return;
            }
            let Some(object) = self.objects.next() else {
                self.ready.extend_from_slice(TAIL);
                self.ended = true;
                return;
            };
            if !std::mem::take(&mut self.first) {
                self.ready.push(b',');
            }
            self.item.write(&mut self.ready, &object);
        }
    }

    fn is_empty(&self) -> bool {
        self.ended && self.ready.is_empty()
    }
}

impl HttpBody for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        self.make(CHUNK);
        let chunk = Bytes::from(std::mem::take(&mut self.ready));
        self.left = self.left.map(|left| left.saturating_sub(chunk.len()));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left as u64),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(self.ready.len() as u64);
                hint
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use model::Resource;

    use super::*;

    fn objects(count: usize, padding: usize) -> Vec<Arc<Object>> {
        (0..count)
            .map(|i| {
                let text = format!(r#"{{"metadata":{{"name":"n{i}","labels":{{"x":"{}"}}}}}}"#, "y".repeat(padding));
                Arc::new(Object::decode(Resource::Namespaces, Bytes::from(text)).unwrap())
            })
            .collect()
    }

    async fn read(mut body: ListBody, longest: usize) -> Vec<u8> {
        let mut joined = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(!data.is_empty() && data.len() <= longest, "{}", data.len());
            joined.extend_from_slice(&data);
        }
        assert!(body.is_end_stream());
        joined
    }

    fn items(json: &[u8]) -> usize {
        let value: serde_json::Value = serde_json::from_slice(json).unwrap();
        value["items"].as_array().unwrap().len()
    }

    const HEAD: &[u8] = b"{\"items\":[";

    #[tokio::test]
    async fn length_is_told_beforehand_and_frames_are_bounded() {
        for (count, padding) in [(0, 0), (1, 0), (3, 10), (2_000, 500), (3, 200_000)] {
            let body = ListBody::new(HEAD.to_vec(), Item::Object, objects(count, padding));
            let told = body.size_hint().exact().unwrap();
            let whole = ListBody::new(HEAD.to_vec(), Item::Object, objects(count, padding)).gather();
            let joined = read(body, CHUNK.max(padding + 200)).await;
            assert_eq!(joined.len() as u64, told);
            assert_eq!(joined, whole);
            assert_eq!(items(&joined), count);
        }
    }

    #[tokio::test]
    async fn what_is_made_on_the_way_is_known_to_be_long_or_short() {
        for (count, padding) in [(0, 0), (1, 0), (3, 10), (2_000, 500), (3, 200_000)] {
            let body = ListBody::new(HEAD.to_vec(), Item::Metadata("v1"), objects(count, padding));
            let hint = body.size_hint();
            let whole = ListBody::new(HEAD.to_vec(), Item::Metadata("v1"), objects(count, padding)).gather();
            let joined = read(body, CHUNK + padding + 300).await;
            assert_eq!(joined, whole);
            assert_eq!(items(&joined), count);
            if joined.len() < CHUNK {
                assert_eq!(hint.exact(), Some(joined.len() as u64));
            } else {
                assert!(hint.lower() >= CHUNK as u64 && hint.lower() <= joined.len() as u64);
            }
        }
    }
}
