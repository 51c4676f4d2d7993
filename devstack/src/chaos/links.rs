//! The cables: a proxy between every two programs that talk to each other, so that each can be cut alone.

use std::net::SocketAddr;

use anyhow::Context;
use devstack::TcpProxy;

/// Who talks to whom. Replicas of the uploader are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Link {
    /// A replica of the uploader and RabbitMQ.
    UploaderBroker(usize),
    /// A replica of the uploader and PostgreSQL.
    UploaderDatabase(usize),
    /// A replica of the uploader and Redis.
    UploaderRedis(usize),
    /// All replicas and the balancer's default address: creates, and the looks at holder.
    UploaderFront,
    /// All replicas and the flows of the recording fflow.
    UploaderRecorder,
    /// All replicas and the flows of the real fflow.
    UploaderFflow,
    /// The real fflow and holder's FTP, its control connection.
    FflowHolder,
    /// gateway and RabbitMQ.
    GatewayBroker,
    /// gateway and PostgreSQL.
    GatewayDatabase,
    /// A part of the browsers and gateway: a cut one takes their uploads.
    ClientGateway(usize),
}

pub(super) const REPLICAS: usize = 3;
/// How many cables the browsers share.
pub(super) const LINES: usize = 8;

impl Link {
    /// Every cable there is.
    pub(super) fn all() -> Vec<Self> {
        let of_replicas = (0..REPLICAS).flat_map(|number| {
            [Self::UploaderBroker(number), Self::UploaderDatabase(number), Self::UploaderRedis(number)]
        });
        let others = [
            Self::UploaderFront,
            Self::UploaderRecorder,
            Self::UploaderFflow,
            Self::FflowHolder,
            Self::GatewayBroker,
            Self::GatewayDatabase,
        ];
        of_replicas.chain(others).chain((0..LINES).map(Self::ClientGateway)).collect()
    }

    /// In tables and plans.
    pub(super) fn name(self) -> String {
        match self {
            Self::UploaderBroker(number) => format!("uploader-{}/broker", number + 1),
            Self::UploaderDatabase(number) => format!("uploader-{}/database", number + 1),
            Self::UploaderRedis(number) => format!("uploader-{}/redis", number + 1),
            Self::UploaderFront => "uploaders/balancer".to_owned(),
            Self::UploaderRecorder => "uploaders/recording fflow".to_owned(),
            Self::UploaderFflow => "uploaders/fflow".to_owned(),
            Self::FflowHolder => "fflow/holder".to_owned(),
            Self::GatewayBroker => "gateway/broker".to_owned(),
            Self::GatewayDatabase => "gateway/database".to_owned(),
            Self::ClientGateway(number) => format!("clients-{}/gateway", number + 1),
        }
    }
}

/// All cables, each with its proxy.
pub(super) struct Links(Vec<(Link, TcpProxy)>);

impl Links {
    /// Listens everywhere; where each cable leads is told later, by [`Links::connect`].
    pub(super) async fn listen() -> anyhow::Result<Self> {
        let mut links = Vec::new();
        for link in Link::all() {
            // Nobody connects before the target is known; port 1 refuses until then.
            links.push((link, TcpProxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).await?));
        }
        Ok(Self(links))
    }

    pub(super) fn get(&self, link: Link) -> anyhow::Result<&TcpProxy> {
        let found = self.0.iter().find(|(known, _)| *known == link);
        found.map(|(_, proxy)| proxy).with_context(|| format!("no cable {}", link.name()))
    }

    /// Leads a cable to a loopback port.
    pub(super) fn connect(&self, link: Link, port: u16) -> anyhow::Result<()> {
        self.get(link)?.set_target(SocketAddr::from(([127, 0, 0, 1], port)));
        Ok(())
    }

    /// `127.0.0.1:<port>` of a cable's near end.
    pub(super) fn address(&self, link: Link) -> anyhow::Result<String> {
        Ok(self.get(link)?.address())
    }

    /// Everything flows again, at once.
    pub(super) fn heal(&self) {
        for (_, proxy) in &self.0 {
            proxy.stall(false);
            proxy.delay(std::time::Duration::ZERO);
        }
    }
}
