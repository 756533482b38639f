//! Which tokens there are, as a table.

use std::fmt;

use jiff::Timestamp;
use proxy_agent::client::{Client, ClientError};
use serde::{Deserialize, Serialize};

use super::TOKENS;

/// One token, without what it is checked by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    id: String,
    purpose: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// Empty: never.
    #[serde(skip_serializing_if = "String::is_empty")]
    expires_at: String,
    expired: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

/// Every token, by id.
pub async fn tokens(client: &Client, now: Timestamp) -> Result<Vec<Token>, ClientError> {
    let mut tokens = Vec::new();
    let mut list = client.list(TOKENS).await?;
    while let Some(bytes) = list.next().await? {
        let what = "a token";
        tokens.push(token(&bytes, now).map_err(|source| ClientError::Json { what, source })?);
    }
    tokens.sort_by(|a: &Token, b| a.id.cmp(&b.id));
    Ok(tokens)
}

fn token(bytes: &[u8], now: Timestamp) -> Result<Token, serde_json::Error> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        purpose: String,
        user: String,
        groups: Vec<String>,
        expires_at: String,
        description: String,
    }
    let Object { metadata, spec } = serde_json::from_slice(bytes)?;
    Ok(Token {
        expired: spec.expires_at.parse::<Timestamp>().is_ok_and(|at| at <= now),
        id: metadata.name,
        purpose: spec.purpose,
        user: spec.user,
        groups: spec.groups,
        expires_at: spec.expires_at,
        description: spec.description,
    })
}

/// For people.
pub struct Table<'a>(pub &'a [Token]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "there are no tokens");
        }
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let mut rows = vec![["ID", "PURPOSE", "USER", "GROUPS", "EXPIRES", "DESCRIPTION"].map(str::to_owned)];
        rows.extend(self.0.iter().map(|token| {
            let expires = match token.expires_at.as_str() {
                "" => "never".to_owned(),
                at if token.expired => format!("{at} (over)"),
                at => at.to_owned(),
            };
            let groups = dash(&token.groups.join(","));
            [token.id.clone(), token.purpose.clone(), dash(&token.user), groups, expires, dash(&token.description)]
        }));
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("   ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_tokens() {
        let now = "2024-05-06T08:00:00Z".parse().unwrap();
        let of = |text: &str| token(text.as_bytes(), now).unwrap();
        let tokens = [
            of(
                r#"{"metadata":{"name":"aaaaaa"},"spec":{"purpose":"NodeJoin","hash":"sha256:0","expiresAt":"2024-05-06T07:00:00Z"}}"#,
            ),
            of(
                r#"{"metadata":{"name":"bbbbbb"},"spec":{"purpose":"Access","user":"alice","groups":["devs","ops"],"description":"her laptop"}}"#,
            ),
        ];
        expect_test::expect![[r#"
            ID       PURPOSE    USER    GROUPS     EXPIRES                       DESCRIPTION
            aaaaaa   NodeJoin   -       -          2024-05-06T07:00:00Z (over)   -
            bbbbbb   Access     alice   devs,ops   never                         her laptop
        "#]]
        .assert_eq(&Table(&tokens).to_string());
        let data = serde_json::to_string(&tokens).unwrap();
        assert!(!data.contains("hash") && data.contains(r#""expired":true"#), "{data}");
        assert_eq!(Table(&[]).to_string(), "there are no tokens\n");
    }
}
