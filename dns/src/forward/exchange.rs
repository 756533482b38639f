//! One question to one server: by UDP, and by TCP if the answer was cut off.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_proto::rr::{DNSClass, LowerName, Name};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};

use super::{Forwarded, Patience, Question};

/// What fits into a datagram that nobody has to fragment (RFC 9715, the DNS flag day of 2020).
const PAYLOAD: u16 = 1_232;

/// Why a server has not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no answer in time")]
    Late,
    #[error("the exchange failed")]
    Net(#[from] NetError),
    #[error("cut off over TCP too")]
    CutOff,
    #[error("it answers another question")]
    Another,
}

/// The way to servers. A socket for each question: a port that nobody can guess.
pub(super) struct Exchange {
    provider: TokioRuntimeProvider,
    patience: Patience,
}

impl Exchange {
    pub fn new(patience: Patience) -> Self {
        Self { provider: TokioRuntimeProvider::new(), patience }
    }

    /// Asks within `limit`, whatever way it takes.
    pub async fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        question: &Question,
        limit: Duration,
    ) -> Result<Forwarded, Unanswered> {
        let said = tokio::time::timeout(limit, self.exchange(server, name, question));
        said.await.map_err(|_| Unanswered::Late)?.map(answered)
    }

    async fn exchange(&self, server: SocketAddr, name: &Name, question: &Question) -> Result<DnsResponse, Unanswered> {
        let request = self.request(name, question);
        let floor = u64::try_from(self.patience.retransmit.as_millis()).unwrap_or(u64::MAX);
        let mut udp = UdpClientStream::builder(server, self.provider.clone())
            .with_timeout(Some(self.patience.attempt))
            .with_retry_interval_floor(floor)
            .build();
        let said = udp.send_message(request.clone()).first_answer().await?;
        let said = if said.metadata.truncation {
            let (attempt, provider) = (self.patience.attempt, self.provider.clone());
            let tcp = TcpClientStream::exchange(server, None, attempt, None, provider).await?;
            tcp.send(request).first_answer().await?
        } else {
            said
        };
        match said.queries.as_slice() {
            _ if said.metadata.truncation => Err(Unanswered::CutOff),
            [asked] if !same(asked, question) => Err(Unanswered::Another),
            _ => Ok(said),
        }
    }

    fn request(&self, name: &Name, question: &Question) -> DnsRequest {
        let mut options = DnsRequestOptions::default();
        options.edns_payload_len = PAYLOAD;
        options.edns_set_dnssec_ok = question.flags.dnssec_ok;
        options.retry_interval = self.patience.retransmit;
        let mut request = DnsRequest::from_query(Query::query(name.clone(), question.kind), options);
        request.metadata.checking_disabled = question.flags.checking_disabled;
        request
    }
}

fn same(asked: &Query, question: &Question) -> bool {
    LowerName::from(asked.name()) == question.name
        && asked.query_type() == question.kind
        && asked.query_class() == DNSClass::IN
}

fn answered(said: DnsResponse) -> Forwarded {
    let said = said.into_message();
    Forwarded {
        code: said.metadata.response_code,
        answers: said.answers,
        authorities: said.authorities,
        additionals: said.additionals,
    }
}
