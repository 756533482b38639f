//! Asks the server what the nodes have programmed: for the command line and the lab, which wait for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::client::{Client, ClientError};

const ROOT: &str = "/apis/portolan.dev/v1alpha1";
/// The longest that one request asks the server to wait; it would not wait longer than 300 s.
const ASK_LONGEST: Duration = Duration::from_secs(240);
/// Between an answer that came too early, or none, and the next question.
const PAUSE: Duration = Duration::from_millis(200);

/// How the live nodes stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether there are live nodes, and all of them have it.
    pub programmed: bool,
    /// What this is about.
    pub revision: String,
    /// By name.
    pub nodes: Vec<Node>,
}

/// One live node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub programmed: bool,
    /// How far its kernel is.
    pub revision: String,
    /// Since it acknowledged last; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// What its kernel refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Waits until every live node has programmed a Service as it is now, at most for `limit`; the report says whether.
///
/// # Errors
/// When the server refuses, or cannot be asked at the first attempt. One that goes away later is waited for.
pub async fn service(client: &Client, namespace: &str, name: &str, limit: Duration) -> Result<Report, ClientError> {
    wait(client, limit, |_| format!("{ROOT}/namespaces/{namespace}/services/{name}/programmed?")).await
}

/// The same for everything that the server holds now.
///
/// # Errors
/// As [`service`].
pub async fn everything(client: &Client, limit: Duration) -> Result<Report, ClientError> {
    wait(client, limit, |first| match first {
        None => format!("{ROOT}/programmed?"),
        Some(report) => format!("{ROOT}/programmed?revision={}&", report.revision),
    })
    .await
}

/// Asks on the path, which may follow from the first report, until all have it or the time is over.
async fn wait(
    client: &Client,
    limit: Duration,
    path: impl Fn(Option<&Report>) -> String,
) -> Result<Report, ClientError> {
    let until = Instant::now() + limit;
    let mut first: Option<Report> = None;
    let mut last = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let ask = left.min(ASK_LONGEST);
        let path = format!("{}timeoutSeconds={}", path(first.as_ref()), ask.as_millis().div_ceil(1000));
        let report = match (client.get_within(&path, ask).await.and_then(read), last) {
            (Ok(report), _) => report,
            (Err(error), Some(last)) if error.code().is_none_or(|code| code >= 500) => last,
            (Err(error), _) => return Err(error),
        };
        if report.programmed || Instant::now() >= until {
            return Ok(report);
        }
        first.get_or_insert_with(|| report.clone());
        last = Some(report);
        tokio::time::sleep(PAUSE.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

fn read(answer: serde_json::Value) -> Result<Report, ClientError> {
    serde_json::from_value(answer).map_err(|source| ClientError::Json { what: "what the nodes have", source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Fake, Reply};

    fn report(programmed: bool) -> Value {
        json!({"kind": "Programmed", "programmed": programmed, "revision": "7", "nodes": [
            {"name": "a", "programmed": programmed, "revision": "5", "ageSeconds": 1},
            {"name": "b", "programmed": true, "revision": "7", "error": "x"},
        ]})
    }

    async fn asked(fake: &Fake) -> Vec<String> {
        fake.asked().iter().map(|asked| asked.target.replace("/apis/portolan.dev/v1alpha1/", "")).collect()
    }

    #[tokio::test]
    async fn a_server_that_goes_away_meanwhile_is_asked_again_for_the_same() {
        let fake = Fake::scripted(vec![
            Reply::json(200, &report(false)),
            Reply::Nothing,
            Reply::status(503, "ServiceUnavailable", "starting"),
            Reply::json(200, &report(true)),
        ])
        .await;
        let client = Client::new(&fake.url(), None, None).unwrap();
        let report = everything(&client, Duration::from_secs(10)).await.unwrap();
        assert_eq!((report.programmed, report.nodes[0].age_seconds), (true, Some(1)));
        let asked = asked(&fake).await;
        assert_eq!(asked[0], "programmed?timeoutSeconds=10");
        assert_eq!(asked[3], "programmed?revision=7&timeoutSeconds=10");
    }

    #[tokio::test]
    async fn the_end_of_the_time_is_no_error_and_a_refusal_is_one() {
        let fake = Fake::start(|_| Reply::json(200, &report(false))).await;
        let client = Client::new(&fake.url(), None, None).unwrap();
        let report = service(&client, "shop", "web", Duration::from_millis(300)).await.unwrap();
        assert!(!report.programmed);
        assert_eq!(asked(&fake).await[0], "namespaces/shop/services/web/programmed?timeoutSeconds=1");
        let fake = Fake::start(|_| Reply::status(404, "NotFound", "services \"web\" not found")).await;
        let client = Client::new(&fake.url(), None, None).unwrap();
        assert!(service(&client, "shop", "web", Duration::from_secs(9)).await.unwrap_err().is_not_found());
        let nowhere = Client::new("http://127.0.0.1:1", None, None).unwrap();
        assert_eq!(everything(&nowhere, Duration::from_secs(9)).await.unwrap_err().code(), None);
    }
}
