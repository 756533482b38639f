//! The answer in a datagram, whatever the question was.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::{Names, Stage, closing};

/// Answers on `socket` until the stage is [`Stage::Closing`].
pub(super) async fn serve(socket: UdpSocket, names: Arc<Names>, stage: watch::Receiver<Stage>) {
    let port = socket.local_addr().map_or(0, |a| a.port());
    // The question is not read, only taken away.
    let mut question = [0; 1];
    let mut closing = pin!(closing(stage));
    loop {
        tokio::select! {
            () = &mut closing => return,
            received = socket.recv_from(&mut question) => match received {
                // An answer that cannot be sent is one that was lost.
                Ok((_, client)) => drop(socket.send_to(&names.answer(client, port), client).await),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}
