//! Carries the plan out: lanes side by side, each fault undone before its lane goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use devstack::{Kill, Signal, Towards, wait_until};
use peers::recording::{CallKind, FaultRule};
use tokio::time::{sleep, sleep_until, timeout};

use super::browser::{Crowd, create, first_chunk};
use super::chronicle::Struck;
use super::database::Database;
use super::farm::Farm;
use super::fault::{Fault, Wrong};
use super::links::Link;
use super::parts::TICK;
use super::plan::Lane;
use super::volume::QUOTA_MIB;

/// How long a scripted answer waits for a call that it fits.
const UNUSED: Duration = Duration::from_secs(5);
/// The service's own shutdown takes up to 8 s; the rest is for a busy machine.
const LEAVE: Duration = Duration::from_secs(20);
/// How long a moment without any chunk in flight is waited for.
const QUIET: Duration = Duration::from_secs(45);
/// The pause between two looks since when the service consumes.
const WATCH: Duration = Duration::from_millis(500);
/// A first chunk, in bytes.
const CHUNK: usize = 8 << 10;

/// What breaks things, and remembers what it broke.
pub(super) struct Nemesis {
    pub(super) farm: Rc<Farm>,
    pub(super) crowd: Rc<Crowd>,
    pub(super) struck: RefCell<Vec<Struck>>,
    /// What went wrong that no fault may make go wrong.
    pub(super) outrages: RefCell<Vec<String>>,
    /// Faults that could not be done here, and why.
    pub(super) left_out: RefCell<Vec<String>>,
    /// The times since when the service has said that it consumes.
    pub(super) consuming: RefCell<Vec<Duration>>,
    rng: RefCell<fastrand::Rng>,
}

impl Nemesis {
    pub(super) fn new(farm: Rc<Farm>, crowd: Rc<Crowd>, seed: u64) -> Self {
        Self {
            farm,
            crowd,
            struck: RefCell::default(),
            outrages: RefCell::default(),
            left_out: RefCell::default(),
            consuming: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Notes when the service says that consuming began anew: from then on abandoned uploads have their whole time.
    pub(super) async fn watch_consuming(self: Rc<Self>) -> anyhow::Result<()> {
        let database = Database::open(&self.farm.database_url);
        loop {
            sleep(WATCH).await;
            // It may be away at the moment.
            let Ok(Some(age)) = database.consuming_for().await else { continue };
            let since = self.crowd.now().saturating_sub(age);
            let mut known = self.consuming.borrow_mut();
            if known.last().is_none_or(|last| since.abs_diff(*last) > WATCH) {
                known.push(since);
            }
        }
    }

    /// One lane, to its end or to `length`, whichever is first; a late lane leaves its rest out.
    pub(super) async fn walk(self: Rc<Self>, lane: Lane, length: Duration) -> anyhow::Result<()> {
        for due in lane {
            sleep_until(self.crowd.begun + due.at).await;
            if self.crowd.now() >= length {
                return Ok(());
            }
            if matches!(due.fault, Fault::FillSpool(_)) && !self.farm.volume.is_small() {
                let told = "spool volume full: no mount namespace is to be had here".to_owned();
                self.left_out.borrow_mut().push(told);
                continue;
            }
            self.strike(due.fault).await.with_context(|| due.fault.describe())?;
        }
        Ok(())
    }

    /// Half of the time the neighbours have the manners of the existing ones: the other half begins now. No chunk is
    /// in flight meanwhile, since gateway starts again.
    pub(super) async fn change_manners(
        self: Rc<Self>,
        at: Duration,
        as_observed: bool,
    ) -> anyhow::Result<()> {
        sleep_until(self.crowd.begun + at).await;
        self.set_manners(as_observed).await
    }

    /// Everything is up and kind again: nobody who observes the existing manners would ever tell of a dead ffmpeg.
    pub(super) async fn heal(&self) -> anyhow::Result<()> {
        self.farm.heal().await?;
        if self.farm.as_observed.get() { self.set_manners(false).await } else { Ok(()) }
    }

    async fn set_manners(&self, as_observed: bool) -> anyhow::Result<()> {
        // Without a quiet moment the uploads in flight would be lost, as with any restart of gateway.
        let _quiet = timeout(QUIET, self.crowd.in_flight.write()).await.ok();
        self.farm.set_manners(as_observed).await
    }

    async fn strike(&self, fault: Fault) -> anyhow::Result<()> {
        let index = self.begin(fault);
        match fault {
            Fault::KillUploader(..) | Fault::TerminateUploader(_) | Fault::FreezeUploader(..) => {
                self.uploader(fault).await?;
            }
            Fault::KillRecorder(..)
            | Fault::KillFflow(..)
            | Fault::KillFfmpeg { .. }
            | Fault::WrongAnswers { .. } => self.fflow(fault).await?,
            Fault::RestartBroker { .. }
            | Fault::RestartDatabase { .. }
            | Fault::EmptyRedis
            | Fault::RestartRedis(_) => self.server(fault).await?,
            Fault::Cut(link) | Fault::HalfClose(link, _) | Fault::Delay(link, ..) | Fault::Stall(link, _) => {
                self.cable(fault, link).await?;
            }
            Fault::ExhaustQuota(time) => self.exhaust_quota(time).await?,
            Fault::FillSpool(time) => {
                self.farm.volume.fill()?;
                sleep(time).await;
                self.farm.volume.free()?;
            }
        }
        self.struck.borrow_mut()[index].to = Some(self.crowd.now());
        Ok(())
    }

    fn begin(&self, fault: Fault) -> usize {
        let from = self.crowd.now();
        eprintln!("{:>7.1} s  {}", from.as_secs_f64(), fault.describe());
        let mut struck = self.struck.borrow_mut();
        struck.push(Struck { fault, from, to: None });
        struck.len() - 1
    }

    async fn uploader(&self, fault: Fault) -> anyhow::Result<()> {
        let program = |number: usize| self.farm.uploaders.get(number).context("no such replica");
        match fault {
            Fault::KillUploader(number, pause) => {
                program(number)?.kill().await?;
                sleep(pause).await;
                program(number)?.launch()
            }
            Fault::TerminateUploader(number) => {
                if let Err(error) = program(number)?.terminate(LEAVE).await {
                    self.outrages.borrow_mut().push(format!("{error:#}"));
                    program(number)?.kill().await?;
                }
                program(number)?.launch()
            }
            Fault::FreezeUploader(number, time) => program(number)?.freeze(time).await,
            _ => Ok(()),
        }
    }

    async fn fflow(&self, fault: Fault) -> anyhow::Result<()> {
        let recorder = &self.farm.recorder;
        match fault {
            Fault::KillRecorder(replica, pause) => {
                recorder.kill_replica(replica);
                sleep(pause).await;
                recorder.revive_replica(replica);
            }
            Fault::KillFflow(number, pause) => {
                let program = self.farm.fflows.get(number).context("no such replica")?;
                program.kill().await?;
                sleep(pause).await;
                program.launch()?;
            }
            Fault::KillFfmpeg { real: true } => {
                let victims = super::processes::ffmpegs(&self.farm.fflow_processes());
                if let Some(victim) = self.rng.borrow_mut().choice(victims) {
                    // It may have ended meanwhile.
                    let _ = nix::sys::signal::kill(victim, Signal::SIGKILL);
                }
            }
            Fault::KillFfmpeg { real: false } => {
                let mut living = recorder.living();
                living.sort_unstable();
                if let Some(name) = self.rng.borrow_mut().choice(living) {
                    recorder.kill_flow(&name);
                }
            }
            Fault::WrongAnswers { finish, wrong, times } => self.answer_wrongly(finish, wrong, times).await,
            _ => {}
        }
        Ok(())
    }

    async fn answer_wrongly(&self, finish: bool, wrong: Wrong, times: usize) {
        use peers::recording::Fault as Scripted;
        let kind = if finish { CallKind::Finish } else { CallKind::Push };
        let scripted = match wrong {
            Wrong::Status(status) => Scripted::Status(status),
            Wrong::ResetAfter => Scripted::ResetAfter,
            Wrong::TimeoutAfter => Scripted::StatusAfterEffect(504),
        };
        let recorder = &self.farm.recorder;
        let rule = recorder.inject(FaultRule::on(kind, scripted).times(times));
        // A rule that found no call strikes nobody.
        let _ = wait_until("it has struck", UNUSED, async || recorder.struck(rule) == times).await;
        recorder.disarm(rule);
    }

    async fn server(&self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::RestartBroker { kill } => {
                let mut broker = self.farm.rabbitmq.lock().await;
                if kill {
                    broker.kill().await?;
                }
                broker.restart().await?;
                drop(broker);
                self.after_loss_of_broker().await
            }
            Fault::RestartDatabase { crash, pause } => {
                let mut database = self.farm.postgres.lock().await;
                database.stop(if crash { Kill::Immediate } else { Kill::Fast }).await?;
                sleep(pause).await;
                database.restart().await
            }
            Fault::RestartRedis(time) => {
                let mut redis = self.farm.redis.lock().await;
                redis.stop().await?;
                sleep(time).await;
                redis.restart().await
            }
            Fault::EmptyRedis => {
                let redis = self.farm.redis.lock().await;
                let command = redis::cmd("FLUSHALL");
                devstack::servers::redis::command(redis.host(), redis.port(), 0, &command).await
            }
            _ => Ok(()),
        }
    }

    /// The existing gateway does not connect again: somebody has to start it again.
    async fn after_loss_of_broker(&self) -> anyhow::Result<()> {
        if self.farm.as_observed.get() { self.farm.restart_gateway().await } else { Ok(()) }
    }

    async fn cable(&self, fault: Fault, link: Link) -> anyhow::Result<()> {
        let proxy = self.farm.links.get(link)?;
        match fault {
            Fault::Cut(_) => proxy.cut(),
            Fault::HalfClose(_, there) => {
                proxy.half_close(if there { Towards::Target } else { Towards::Clients });
            }
            Fault::Delay(_, by, time) => {
                proxy.delay(by);
                sleep(time).await;
                proxy.delay(Duration::ZERO);
                return Ok(());
            }
            Fault::Stall(_, time) => {
                proxy.stall(true);
                sleep(time).await;
                proxy.stall(false);
            }
            _ => {}
        }
        if link == Link::GatewayBroker { self.after_loss_of_broker().await } else { Ok(()) }
    }

    /// One upload announces so many bytes that nobody else's fit; later it is deleted, as its user could.
    async fn exhaust_quota(&self, time: Duration) -> anyhow::Result<()> {
        let database = Database::open(&self.farm.database_url);
        let gateway = self.crowd.line(0);
        let Ok(reserved) = database.reserved().await else { return Ok(()) };
        // Never a whole file, which would be fed.
        let rest = (QUOTA_MIB << 20).saturating_sub(reserved + CHUNK as u64).max(2 * CHUNK as u64);
        let Ok((video, _, session)) = create(gateway, rest).await else { return Ok(()) };
        // Refused is as well: then others have reserved as much.
        let _ = first_chunk(gateway, &session, &[0; CHUNK]).await;
        sleep(time).await;
        let deleted = wait_until("the greedy video is deleted", QUIET, async || {
            database.delete_video(&video).await.is_ok()
        });
        deleted.await?;
        // Its reservation goes with the next cleaning.
        sleep(TICK).await;
        Ok(())
    }
}
