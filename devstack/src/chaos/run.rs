//! One run: everything is started, broken, healed, and looked at.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use devstack::{Workspace, wait_until};
use peers::recording::{CallKind, Fault, FaultRule};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::Terms;
use super::browser::Crowd;
use super::clips;
use super::farm::Farm;
use super::judge::{Evidence, Outcome, Verdict, judge};
use super::nemesis::Nemesis;
use super::parts::LEASE;
use super::plan::{Lane, plan};
use super::processes;
use super::program::Program;
use super::report::Report;
use super::settle::{Settled, settle};
use crate::clip::Video;

/// Everything that was started is gone so long after it was stopped.
const GONE: Duration = Duration::from_secs(15);

pub(super) type Tasks = JoinSet<anyhow::Result<()>>;

/// The run; whether all is well, and the last line's numbers. Whatever goes on meanwhile is in `tasks`.
pub(super) async fn fire(
    terms: &Terms,
    workspace: &Rc<Workspace>,
    tasks: &mut Tasks,
) -> anyhow::Result<(bool, String)> {
    let length = Duration::from_secs(terms.seconds);
    let lanes = plan(terms.seed, length, LEASE);
    print_plan(terms, &lanes);
    // Which half has which manners is the seed's choice.
    let observed_first = terms.seed % 2 == 1;
    let (clip, clip_bytes) = clips::make(workspace).await?;
    let farm = Rc::new(Farm::start(workspace, observed_first).await?);
    if terms.betray {
        farm.recorder.inject(FaultRule::on(CallKind::Push, Fault::EffectTwice).once());
    }
    for number in 0..farm.programs().count() {
        tasks.spawn_local(Rc::clone(&farm).keep(number));
    }
    let crowd = Rc::new(Crowd::new(farm.gateway_urls()?, farm.front.real.clone(), clip_bytes));
    let nemesis = Rc::new(Nemesis::new(Rc::clone(&farm), Rc::clone(&crowd), terms.seed));
    tasks.spawn_local(Rc::clone(&nemesis).watch_consuming());
    let mut clients = JoinSet::new();
    for number in 0..terms.clients {
        clients.spawn_local(Rc::clone(&crowd).client(number, terms.seed));
    }
    let settled = tokio::select! {
        settled = break_and_heal(&nemesis, lanes, length, !observed_first) => settled,
        Some(ended) = tasks.join_next() => {
            Err(ended?.err().unwrap_or_else(|| anyhow::anyhow!("a process manager has ended")))
        }
    };
    clients.shutdown().await;
    conclude(terms, &nemesis, settled?, &clip, tasks).await
}

fn print_plan(terms: &Terms, lanes: &[Lane]) {
    println!("SEED={} CHAOS_SECONDS={}, {} clients", terms.seed, terms.seconds, terms.clients);
    let mut all: Vec<_> = lanes.iter().flatten().collect();
    all.sort_by_key(|due| due.at);
    for due in all {
        println!("planned {:>7.1} s  {}", due.at.as_secs_f64(), due.fault.describe());
    }
}

/// The nemesis's time, then the healing, then the wait until nothing is left to do.
async fn break_and_heal(
    nemesis: &Rc<Nemesis>,
    lanes: Vec<Lane>,
    length: Duration,
    observed_second: bool,
) -> anyhow::Result<Settled> {
    let mut breaking = JoinSet::new();
    for lane in lanes {
        breaking.spawn_local(Rc::clone(nemesis).walk(lane, length));
    }
    breaking.spawn_local(Rc::clone(nemesis).change_manners(length / 2, observed_second));
    sleep_until(nemesis.crowd.begun + length).await;
    nemesis.crowd.closing.set(true);
    while let Some(done) = breaking.join_next().await {
        done??;
    }
    nemesis.heal().await.context("healing")?;
    settle(&nemesis.farm, &nemesis.crowd).await
}

/// Judges, stops everything and tells.
async fn conclude(
    terms: &Terms,
    nemesis: &Nemesis,
    settled: Settled,
    clip: &Video,
    tasks: &mut Tasks,
) -> anyhow::Result<(bool, String)> {
    let (farm, crowd) = (&nemesis.farm, &nemesis.crowd);
    let (uploads, struck) = (crowd.uploads.borrow().clone(), nemesis.struck.borrow().clone());
    let flows = farm.recorder.flows();
    let mut verdict = judge(&Evidence {
        uploads: &uploads,
        truth: &settled.truth,
        flows: &flows,
        struck: &struck,
        consuming: &nemesis.consuming.borrow(),
    });
    drop(flows);
    let (clips, undecoded) =
        clips::look(&uploads, &verdict.outcomes, &farm.holder_url(), clip, &farm.workspace).await;
    verdict.lost.extend(undecoded);
    let own_ends: Vec<_> = farm.programs().flat_map(Program::own_ends).collect();
    // Nobody starts again what is stopped now.
    tasks.shutdown().await;
    let problems = problems(nemesis, &settled, &verdict).await;
    let report = Report {
        seed: terms.seed,
        seconds: terms.seconds,
        clients: terms.clients,
        struck: &struck,
        consuming: &nemesis.consuming.borrow(),
        uploads: &uploads,
        verdict: &verdict,
        settled: settled.took,
        gateway_cpu: settled.gateway_cpu,
        not_created: crowd.not_created.get(),
        own_ends: &own_ends,
        left_out: &nemesis.left_out.borrow().clone(),
        clips,
        problems: &problems,
    };
    println!("{}\nreport        {}", report.table(), report.write()?.display());
    if problems.is_empty() {
        return Ok((true, report.sum()));
    }
    Ok((false, format!("{}; {} problems, SEED={}", report.sum(), problems.len(), terms.seed)))
}

/// Stops everything, and says of all that is not as it was promised.
async fn problems(nemesis: &Nemesis, settled: &Settled, verdict: &Verdict) -> Vec<String> {
    let farm = &nemesis.farm;
    let mut problems = nemesis.outrages.borrow().clone();
    problems.extend(settled.left.iter().map(|what| format!("left behind: {what}")));
    if !verdict.outcomes.contains(&Outcome::Distributed) {
        problems.push("nothing was distributed: this run shows nothing".to_owned());
    }
    if let Err(error) = farm.stop().await {
        problems.push(format!("{error:#}"));
    }
    let leftovers = || processes::leftovers(farm.workspace.path());
    // Children of a killed broker need a moment to notice.
    if wait_until("nothing runs any more", GONE, async || leftovers().is_empty()).await.is_err() {
        problems.extend(leftovers().into_iter().map(|process| format!("still runs: {process}")));
    }
    for found in [&verdict.lost, &verdict.duplicated, &verdict.hung] {
        problems.extend(found.iter().cloned());
    }
    problems
}
