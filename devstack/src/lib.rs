//! Private servers for one machine: what the tests and the demo of `uploader-v4` run against.
//!
//! In reading order: [`tools`] finds or installs the programs, a [`Workspace`] holds one run's data, [`ports`]
//! leases loopback ports, a [`Process`] is a child that never outlives its owner, [`servers`] are PostgreSQL,
//! Redis, RabbitMQ and nginx as such children. A [`Stack`] is a test run's set of servers, [`Endpoints`] say
//! where they are, and a [`Sandbox`] is one test's own world on them. [`TcpProxy`] stands between two processes
//! and cuts their cable; [`wait_until`] waits for a condition.
//!
//! Nothing here touches servers that are already on the machine.

mod database;
pub mod endpoints;
pub mod http;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod sandbox;
pub mod servers;
pub mod stack;
pub mod tools;
pub mod wait;
pub mod workspace;

pub use endpoints::Endpoints;
pub use ports::PortLease;
pub use process::{Process, ProcessBuilder, Signal};
pub use proxy::{TcpProxy, Towards};
pub use sandbox::Sandbox;
pub use servers::Identity;
pub use servers::nginx::Nginx;
pub use servers::nginx::balancer::Balancer;
pub use servers::postgres::{Kill, Postgres};
pub use servers::rabbitmq::RabbitMq;
pub use servers::rabbitmq::management::{Management, QueueDepth};
pub use servers::redis::Redis;
pub use stack::Stack;
pub use tools::Tool;
pub use wait::{retry_until, wait_until};
pub use workspace::Workspace;
