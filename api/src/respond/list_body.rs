//! A list on its way out: the objects' own bytes, joined chunk by chunk while the client takes them.
//!
//! Nothing is held but a reference to each object, so a list of 100 MiB costs one chunk of memory, and its length
//! is known before the first byte leaves.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use model::Object;

/// How much of the list one frame carries, in bytes; an object longer than that makes a longer frame.
const CHUNK: usize = 128 * 1024;

const TAIL: &[u8] = b"]}";

/// A list that has not been sent yet, or the rest of one.
pub struct ListBody {
    head: Bytes,
    objects: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    /// Bytes still to come.
    left: usize,
}

impl ListBody {
    /// `head` is everything before the first item, `[` included.
    pub fn new(head: Bytes, objects: Vec<Arc<Object>>) -> Self {
        let items: usize = objects.iter().map(|o| o.bytes.len()).sum();
        let left = head.len() + items + objects.len().saturating_sub(1) + TAIL.len();
        Self { head, objects: objects.into_iter(), first: true, left }
    }

    /// The whole list at once.
    pub fn gather(mut self) -> Bytes {
        self.chunk(usize::MAX)
    }

    fn chunk(&mut self, most: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(self.left.min(most));
        out.put(std::mem::take(&mut self.head));
        loop {
            let next = self.objects.as_slice().first().map_or(0, |o| o.bytes.len() + 1);
            if !out.is_empty() && out.len() + next + TAIL.len() > most {
                break;
            }
            let Some(object) = self.objects.next() else {
                out.put_slice(TAIL);
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            out.put_slice(&object.bytes);
        }
        self.left -= out.len();
        out.freeze()
    }
}

impl HttpBody for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.chunk(CHUNK)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
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

    #[tokio::test]
    async fn length_is_told_beforehand_and_frames_are_bounded() {
        for (count, padding) in [(0, 0), (1, 0), (3, 10), (2_000, 500), (3, 200_000)] {
            let body = ListBody::new(Bytes::from_static(b"{\"items\":["), objects(count, padding));
            let told = body.size_hint().exact().unwrap();
            let whole = ListBody::new(Bytes::from_static(b"{\"items\":["), objects(count, padding)).gather();
            let mut body = body;
            let mut joined = Vec::new();
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.len() <= CHUNK.max(padding + 200));
                joined.extend_from_slice(&data);
            }
            assert_eq!(joined.len() as u64, told);
            assert_eq!(joined, whole);
            let value: serde_json::Value = serde_json::from_slice(&joined).unwrap();
            assert_eq!(value["items"].as_array().unwrap().len(), count);
        }
    }
}
