//! Connections that stop being HTTP, as WebSocket: once both sides have agreed, octets go through as they come.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::backend::Busy;
use super::body::Answer;
use super::connection::Client;
use super::exchange::{Attempt, Failure, in_time};
use super::link::Outgoing;
use crate::relay::{Ended, copy};

/// Asks a backend for a tunnel. If it does not want one, its answer is passed on as any.
///
/// # Errors
/// What the client is to be told.
pub async fn ask(attempt: &mut Attempt<'_>, mut parts: Parts, body: Incoming) -> Result<Response<Answer>, Failure> {
    let near = parts.extensions.remove::<OnUpgrade>();
    let busy = attempt.next()?;
    // Never one that has served others: a tunnel's connection serves nobody after it.
    let (link, busy) = attempt.connect(busy).await?;
    let (mut sender, connection) = link.into_parts();
    let connection = connection.with_upgrades();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a tunnel's connection: {error}");
        }
    });
    let (body, progress) = Outgoing::client(body);
    let asking = sender.send_request(Request::from_parts(parts, body));
    let mut response = match in_time(asking, attempt.settings.request, progress.as_deref()).await? {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!("asking {} for a tunnel: {error}", busy.backend().address);
            return Err(Failure::Broken);
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| Answer::Elsewhere(body, busy)));
    }
    let (Some(near), Some(far)) = (near, response.extensions_mut().remove::<OnUpgrade>()) else {
        return Err(Failure::Tunnel);
    };
    let silence = attempt.settings.established;
    tokio::spawn(through(Arc::clone(attempt.client), near, far, busy, silence));
    let (parts, _) = response.into_parts();
    Ok(Response::from_parts(parts, Answer::text("")))
}

/// Both ways, until one side ends, or both are silent for too long.
async fn through(client: Arc<Client>, near: OnUpgrade, far: OnUpgrade, busy: Busy, silence: Duration) {
    let _open = client.tunnel();
    let both = async { tokio::try_join!(near, far) };
    let (near, far): (Upgraded, Upgraded) = match both.await {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!("a tunnel to {}: {error}", busy.backend().address);
            return;
        }
    };
    let ended = copy(TokioIo::new(near), TokioIo::new(far), silence, busy.backend().departure()).await;
    if let Ended::Broken(error) = ended {
        tracing::debug!("a tunnel to {}: {error}", busy.backend().address);
    }
}
