//! `devstack exec` gives a command its servers, ends as the command did and leaves nothing, even when killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use devstack::{Process, Signal, Workspace, wait_until};

const START: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(30);

/// Tells the ports of its servers, then does `then`.
fn exec(workspace: &Workspace, then: &str) -> Process {
    let script =
        format!("echo ports $DEVSTACK_REDIS_PORT ${{DEVSTACK_POSTGRES_URL}} ${{DEVSTACK_AMQP_URL}}; {then}");
    let builder = Process::command(env!("CARGO_BIN_EXE_devstack")).args(["exec", "--", "sh", "-c", &script]);
    builder.log(workspace.log("exec")).stop_signal(Signal::SIGTERM, SOON).start().unwrap()
}

/// The ports that the command was told, once it runs.
async fn ports(process: &Process) -> Vec<u16> {
    let told = async || process.log_tail(10).contains("ports ");
    wait_until("the command runs", START, told).await.unwrap();
    let line = process.log_tail(10).lines().find(|line| line.starts_with("ports ")).unwrap().to_owned();
    line.split([' ', ':', '/']).filter_map(|word| word.parse().ok()).collect()
}

async fn nobody_listens(ports: &[u16]) {
    assert_eq!(ports.len(), 3, "{ports:?}");
    let closed =
        async || ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_err());
    wait_until("nobody listens any more", SOON, closed).await.unwrap();
}

#[tokio::test]
async fn the_exit_code_is_the_commands_and_the_servers_are_gone() {
    let workspace = Workspace::new("test").unwrap();
    let process = exec(&workspace, "exit 7");
    assert_eq!(process.wait_exit(START).await.unwrap().code(), Some(7));
    nobody_listens(&ports(&process).await).await;
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_servers_are_gone() {
    let workspace = Workspace::new("test").unwrap();
    let process = exec(&workspace, "trap 'exit 3' TERM; sleep 600 & wait");
    let ports = ports(&process).await;
    process.signal(Signal::SIGTERM).unwrap();
    assert_eq!(process.wait_exit(SOON).await.unwrap().code(), Some(3));
    nobody_listens(&ports).await;
}

#[tokio::test]
async fn killing_it_outright_takes_the_servers_along() {
    let workspace = Workspace::new("test").unwrap();
    let process = exec(&workspace, "exec sleep 600");
    let ports = ports(&process).await;
    process.signal(Signal::SIGKILL).unwrap();
    nobody_listens(&ports).await;
}
