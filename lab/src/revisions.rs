//! What an agent has programmed, and by which dataplane, told by its own metrics: what `lab status` shows also while the server is away.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;

use crate::netns::Netns;

/// On an agent, by resource: the newest revision that is in the kernel.
const PROGRAMMED: &str = "portolan_agent_programmed_revision";
/// On an agent: 1 for the dataplane that carries the Services.
const DATAPLANE: &str = "portolan_agent_dataplane";

const AGENT_METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
const LIMIT: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Revisions by resource.
pub type Revisions = BTreeMap<String, u64>;

/// What an agent says of itself.
pub struct Told {
    pub programmed: Revisions,
    pub dataplane: Option<String>,
}

/// Reads the gauge `name` from a page of metrics, by its label `by`.
fn parse(page: &str, name: &str, by: &str) -> Revisions {
    let samples = page.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once('}')?;
        let labels = labels.split(',').filter_map(|label| label.trim().split_once('='));
        let labelled = labels.into_iter().find_map(|(label, value)| (label == by).then_some(value))?;
        // A gauge may be written as a float.
        let value = value.split_whitespace().next()?;
        let value = value.strip_suffix(".0").unwrap_or(value).parse().ok()?;
        Some((labelled.trim_matches('"').to_owned(), value))
    });
    samples.collect()
}

/// What the agent in this namespace says.
pub async fn told(netns: &Netns) -> io::Result<Told> {
    let page = get(netns, AGENT_METRICS, "/metrics").await?;
    let dataplane = parse(&page, DATAPLANE, "dataplane").into_iter().find(|(_, carries)| *carries == 1);
    Ok(Told { programmed: parse(&page, PROGRAMMED, "resource"), dataplane: dataplane.map(|(name, _)| name) })
}

/// What is served at `path` in this namespace, whatever the answer's code.
pub async fn get(netns: &Netns, at: SocketAddr, path: &str) -> io::Result<String> {
    tokio::time::timeout(LIMIT, ask(netns, at, path)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn ask(netns: &Netns, at: SocketAddr, path: &str) -> io::Result<String> {
    let stream = netns.tcp_socket()?.connect(at).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request =
        Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(io::Error::other)
    };
    let body = answer.await;
    connection.abort();
    Ok(String::from_utf8_lossy(&body?.to_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(list: &[(&str, u64)]) -> Revisions {
        list.iter().map(|(r, n)| ((*r).to_owned(), *n)).collect()
    }

    #[test]
    fn only_the_named_gauge_is_read() {
        let page = "# TYPE portolan_agent_programmed_revision gauge\n\
                    portolan_agent_programmed_revision{resource=\"services\"} 12\n\
                    portolan_agent_programmed_revision{zone=\"a\",resource=\"nodes\"} 9.0 1700000000\n\
                    portolan_agent_programmed_revision_total{resource=\"pods\"} 3\n\
                    portolan_agent_programmed_revision{resource=\"pods\"} what\n";
        assert_eq!(parse(page, PROGRAMMED, "resource"), revisions(&[("services", 12), ("nodes", 9)]));
        assert_eq!(
            parse("portolan_agent_dataplane{dataplane=\"ipvs\"} 1\n", DATAPLANE, "dataplane"),
            revisions(&[("ipvs", 1)])
        );
    }
}
