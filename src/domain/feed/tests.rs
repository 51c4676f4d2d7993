//! Walks of a feed: scripted ones for each rule, then any answers in any order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::ids::{Epoch, FlowId, SessionId, VideoId};
use crate::domain::invariants::FeedHistory;
use crate::domain::retry::Backoff;
use crate::domain::route::{self, AllowList};

const ORIGIN: &str = "http://fflow.test:4050";
const TOTAL: i64 = 230;
const GRACE: Duration = Duration::from_secs(300);
const BASE: Duration = Duration::from_secs(600);

fn rules() -> Rules {
    Rules {
        start_bytes: 100,
        push_block: 50,
        push_linger: Duration::from_millis(25),
        push_rate: 1 << 30,
        idle: Duration::from_secs(60),
        backoff: Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) },
        max_strikes: 3,
        strike_waits: vec![Duration::from_secs(30), Duration::from_secs(120)],
        strike_span: Duration::from_secs(3600),
        holder: true,
        holder_poll: Duration::from_secs(5),
        finish_base: BASE,
        finish_rate: 1 << 18,
        finish_grace: GRACE,
    }
}

/// A sealed session that nobody has fed yet.
fn claim() -> Claim {
    Claim {
        session: SessionId(Uuid::from_u128(1)),
        flow: FlowId(Uuid::from_u128(2)),
        video: VideoId(Uuid::from_u128(3)),
        total: TOTAL,
        committed: TOTAL,
        sealed: true,
        epoch: Epoch(1),
        generation: Generation(0),
        flow_url: None,
        fed: 0,
        settled: false,
        farthest: 0,
        strikes: 0,
        finish_sent: None,
        failing: None,
        owner_died: false,
    }
}

/// A claim of generation 2, of which `fed` bytes were fed.
fn settled(fed: i64) -> Claim {
    let flow_url = Some("as stored".to_owned());
    Claim { generation: Generation(2), settled: true, fed, flow_url, ..claim() }
}

/// A claim whose row tells of a finish written down `ago`.
fn finishing(ago: Duration, owner_died: bool) -> Claim {
    Claim { settled: false, finish_sent: Some(ago), owner_died, ..settled(0) }
}

fn url(name: &FlowName) -> FlowUrl {
    route::from_answer(&format!("{ORIGIN}/r1/{name}"), name, &AllowList::new([ORIGIN])).unwrap()
}

fn status(status: u16) -> Event {
    Event::Pushed(Err(Trouble::Status(status, "no".to_owned())))
}

fn finish_status(status: u16) -> Event {
    Event::Finished(Err(Trouble::Status(status, "no".to_owned())))
}

fn unknown() -> Trouble {
    Trouble::Unknown("reset".to_owned())
}

fn not_whole() -> Event {
    Event::Looked(Sight::NotWhole("manifest.mpd answered 404".to_owned()))
}

fn evidence(worked: bool, lone: bool) -> Event {
    Event::Weighed(Evidence { worked, lone })
}

/// One feed, its clock, and the rules that must hold at each of its steps.
#[derive(Clone)]
struct Walk {
    feed: Feed,
    history: FeedHistory,
    now: Timestamp,
    rules: Rules,
    last: Step,
    asked: Vec<Step>,
}

impl Walk {
    fn of(claim: Claim) -> Self {
        Self::with(claim, rules())
    }

    fn with(claim: Claim, rules: Rules) -> Self {
        let now = Timestamp(1_000_000);
        let feed = Feed::new(claim, now);
        let history = FeedHistory::new(&feed);
        let mut walk = Walk { feed, history, now, rules, last: Step::Stay, asked: Vec::new() };
        walk.hear(Event::Begin);
        walk
    }

    fn hear(&mut self, event: Event) -> Step {
        let before = self.feed.clone();
        let (after, step) = decide(before.clone(), event.clone(), self.now, 0.5, &self.rules);
        let sound = self.history.observe(&before, &event, &after, &step);
        assert_eq!(sound, Ok(()), "{before:?} heard {event:?}, asked {step:?}");
        self.feed = after;
        if step != Step::Stay {
            self.asked.push(step.clone());
            self.last = step.clone();
        }
        step
    }

    /// The answer that lets things go on.
    fn good_answer(&self) -> Event {
        match &self.last {
            Step::Resolve { .. } => Event::Resolved(Some(url(&self.feed.name()))),
            Step::Number(_) => Event::Numbered,
            Step::Create => Event::Created(Created::At(url(&self.feed.name()))),
            Step::Record(_) => Event::Recorded,
            Step::Push { .. } => Event::Pushed(Ok(())),
            Step::Mark => Event::Marked,
            Step::Finish => Event::Finished(Ok(())),
            Step::Look => Event::Looked(Sight::Whole(7)),
            Step::Delete => Event::Deleted(Deleted::Gone),
            Step::Weigh(_) => evidence(false, false),
            Step::Complete => Event::Completed,
            Step::Park(_) => Event::Parked,
            Step::CleanUp { .. } => Event::Cleaned,
            Step::Release { .. } => Event::Released,
            Step::Stay | Step::Wait { .. } | Step::Stop { .. } => Event::Time,
        }
    }

    fn answer(&mut self, event: Event) -> Step {
        if let Step::Wait { until, .. } = self.last
            && event == Event::Time
        {
            self.now = self.now.max(until);
        }
        self.hear(event)
    }

    fn go_on(&mut self) -> Step {
        let event = self.good_answer();
        self.answer(event)
    }

    /// Lets everything go well until the feed asks for such a step.
    fn until(&mut self, wanted: impl Fn(&Step) -> bool) -> Step {
        for _ in 0..500 {
            if wanted(&self.last) {
                return self.last.clone();
            }
            assert!(!self.feed.ended(), "ended before: {:?}", self.asked);
            self.go_on();
        }
        panic!("never asked: {:?}", self.asked);
    }

    fn until_push(&mut self) -> Step {
        self.until(|step| matches!(step, Step::Push { .. }))
    }

    fn until_finish(&mut self) -> Step {
        self.until(|step| *step == Step::Finish)
    }

    fn until_end(&mut self) {
        self.until(|step| matches!(step, Step::Stop { .. }));
    }

    /// Waits and looks, finding this each time, until the feed asks for something else; says how long that took.
    fn watch(&mut self, sight: &Event) -> Duration {
        let began = self.now;
        for _ in 0..10_000 {
            match self.last {
                Step::Wait { .. } => self.answer(Event::Time),
                Step::Look => self.answer(sight.clone()),
                _ => return began.until(self.now),
            };
        }
        panic!("watched for ever");
    }

    fn numbering(&self) -> &Numbering {
        match &self.last {
            Step::Number(numbering) => numbering,
            other => panic!("no numbering but {other:?}"),
        }
    }

    fn pushes(&self) -> Vec<(i64, i64)> {
        let push = |step: &Step| match step {
            Step::Push { from, to, .. } => Some((*from, *to)),
            _ => None,
        };
        self.asked.iter().filter_map(push).collect()
    }

    fn count(&self, wanted: impl Fn(&Step) -> bool) -> usize {
        self.asked.iter().filter(|step| wanted(step)).count()
    }

    fn wait_span(&self) -> Duration {
        match self.last {
            Step::Wait { until, .. } => self.now.until(until),
            ref other => panic!("no wait but {other:?}"),
        }
    }
}

#[test]
fn a_sealed_session_is_numbered_created_recorded_pushed_finished_seen_twice_and_completed() {
    let mut walk = Walk::of(claim());
    walk.until_end();
    let address = url(&Generation(1).name(claim().session));
    let kinds: Vec<Step> =
        walk.asked.iter().filter(|step| !matches!(step, Step::Push { .. })).cloned().collect();
    assert!(matches!(&kinds[0], Step::Number(numbering) if numbering.stray.is_none()));
    let rest = [Step::Create, Step::Record(address), Step::Mark, Step::Finish, Step::Look];
    assert_eq!(kinds[1..6], rest);
    assert!(matches!(kinds[6], Step::Wait { slow: true, .. }));
    let tail = [Step::Look, Step::Complete, Step::CleanUp { keep_bytes: false }, Step::Stop { stray: None }];
    assert_eq!(kinds[7..], tail);
    assert_eq!(walk.pushes(), [(0, 50), (50, 100), (100, 150), (150, 200), (200, 230)]);
    assert_eq!(walk.feed.saving_path(), format!("/{}/{}", claim().video, claim().flow));
}

#[test]
fn without_a_holder_address_a_finish_is_believed() {
    let mut walk = Walk::with(claim(), Rules { holder: false, ..rules() });
    walk.until_finish();
    assert_eq!(walk.go_on(), Step::Complete);
}

#[test]
fn an_open_session_waits_for_enough_bytes_and_is_released_when_none_come() {
    let mut walk = Walk::of(Claim { committed: 60, sealed: false, ..claim() });
    assert_eq!(walk.wait_span(), rules().idle);
    assert_eq!(walk.hear(Event::Advanced { committed: 99, sealed: false }), Step::Stay);
    assert!(matches!(walk.hear(Event::Advanced { committed: 100, sealed: false }), Step::Number(_)));
    let mut silent = Walk::of(Claim { committed: 60, sealed: false, ..claim() });
    assert_eq!(silent.go_on(), Step::Release { settled: false, fed: 0 });
}

#[test]
fn a_short_file_is_opened_when_it_is_sealed() {
    let mut walk = Walk::of(Claim { committed: 60, sealed: false, total: 70, ..claim() });
    walk.hear(Event::Advanced { committed: 70, sealed: true });
    walk.until_end();
    assert_eq!(walk.pushes(), [(0, 50), (50, 70)]);
}

#[test]
fn feeds_linger_for_half_the_time_at_least_and_not_all_as_long() {
    let rules = rules();
    let lingers = (0..100).map(|_| rules.linger(SessionId(Uuid::new_v4())));
    let lingers: BTreeSet<Duration> = lingers.collect();
    assert!(lingers.iter().all(|linger| (rules.push_linger / 2..=rules.push_linger).contains(linger)));
    assert!(lingers.len() > 90, "{} of 100 differ", lingers.len());
}

#[test]
fn a_feed_lingers_for_a_fuller_block() {
    let mut walk = Walk::of(Claim { committed: 120, sealed: false, ..claim() });
    walk.until(|step| matches!(step, Step::Push { from: 50, .. }));
    assert!(matches!(walk.go_on(), Step::Wait { slow: false, .. }));
    assert_eq!(walk.wait_span().as_millis(), rules().linger(claim().session).as_millis());
    assert_eq!(walk.hear(Event::Advanced { committed: 149, sealed: false }), Step::Stay);
    assert_eq!(
        walk.hear(Event::Advanced { committed: 150, sealed: false }),
        Step::Push { from: 100, to: 150, replay: false }
    );
    walk.hear(Event::Advanced { committed: 155, sealed: false });
    walk.go_on();
    assert_eq!(walk.go_on(), Step::Push { from: 150, to: 155, replay: false });
}

#[test]
fn pushes_keep_to_the_rate() {
    let mut walk = Walk::with(claim(), Rules { push_rate: 50, ..rules() });
    walk.until_push();
    assert!(matches!(walk.go_on(), Step::Wait { slow: false, .. }));
    assert_eq!(walk.wait_span(), Duration::from_secs(1));
    assert_eq!(walk.go_on(), Step::Push { from: 50, to: 100, replay: false });
}

#[test]
fn a_drained_open_session_is_released_settled_after_its_idle_time() {
    let mut walk = Walk::of(Claim { committed: 150, sealed: false, ..claim() });
    walk.until(|step| matches!(step, Step::Release { .. }));
    assert_eq!(walk.last, Step::Release { settled: true, fed: 150 });
    walk.until_end();
}

#[test]
fn hearing_again_of_bytes_it_has_fed_does_not_keep_a_feed_from_being_idle() {
    let mut walk = Walk::of(Claim { committed: 150, sealed: false, ..claim() });
    while !(matches!(walk.last, Step::Wait { .. }) && walk.feed.fed() == 150) {
        walk.go_on();
    }
    assert_eq!(walk.hear(Event::Advanced { committed: 150, sealed: false }), Step::Stay);
}

#[test]
fn a_settled_claim_goes_on_where_the_former_owner_stopped() {
    let mut walk = Walk::of(settled(150));
    assert_eq!(walk.last, Step::Resolve { stored: Some("as stored".to_owned()) });
    walk.until_end();
    assert_eq!(walk.pushes(), [(150, 200), (200, 230)]);
    assert_eq!(walk.count(|step| matches!(step, Step::Number(_) | Step::Create)), 0);
}

#[test]
fn a_settled_claim_without_an_address_that_counts_begins_anew() {
    let mut walk = Walk::of(settled(150));
    walk.hear(Event::Resolved(None));
    let numbering = walk.numbering().clone();
    assert_eq!(numbering.generation, Generation(3));
    assert_eq!(numbering.stray, Some(Generation(2).name(claim().session)));
    walk.until_push();
    assert_eq!(walk.pushes(), [(0, 50)]);
}

#[test]
fn an_unsettled_claim_leaves_the_old_process_behind() {
    let walk = Walk::of(Claim { settled: false, ..settled(150) });
    assert_eq!(walk.numbering().stray, Some(Generation(2).name(claim().session)));
    assert_eq!(walk.numbering().strikes, 0);
}

#[test]
fn a_replay_is_told_from_bytes_that_are_new() {
    let mut walk = Walk::of(Claim { committed: 150, sealed: false, settled: false, ..settled(0) });
    walk.until_push();
    walk.hear(Event::Advanced { committed: TOTAL, sealed: true });
    walk.until_end();
    let replay = |step: &Step| match step {
        Step::Push { from, replay, .. } => Some((*from, *replay)),
        _ => None,
    };
    let replays: Vec<_> = walk.asked.iter().filter_map(replay).collect();
    assert_eq!(replays, [(0, true), (50, true), (100, true), (150, false), (200, false)]);
}

#[test]
fn a_create_that_was_not_sent_repeats_the_same_name() {
    let mut walk = Walk::of(claim());
    walk.until(|step| *step == Step::Create);
    for _ in 0..20 {
        let step = walk.hear(Event::Created(Created::NotSent("refused".to_owned())));
        assert!(matches!(step, Step::Wait { .. }), "{step:?}");
        assert!(walk.wait_span() >= rules().backoff.min && walk.wait_span() <= rules().backoff.max);
        assert_eq!(walk.go_on(), Step::Create);
        assert_eq!(walk.feed.generation(), Generation(1));
    }
    walk.until_end();
    assert_eq!(walk.count(|step| *step == Step::Complete), 1);
}

#[test]
fn a_create_that_may_have_been_applied_takes_a_new_name_and_is_nobodys_strike() {
    let mut walk = Walk::of(claim());
    for generation in 1..20 {
        walk.until(|step| *step == Step::Create);
        walk.hear(Event::Created(Created::Failed("500".to_owned())));
        let numbering = walk.numbering().clone();
        assert_eq!(numbering.generation, Generation(generation + 1));
        assert_eq!(numbering.stray, Some(Generation(generation).name(claim().session)));
        assert_eq!((numbering.strikes, numbering.failing), (0, None));
        assert!(numbering.pause >= rules().backoff.min && numbering.pause <= rules().backoff.max);
        walk.go_on();
    }
}

/// Feeds up to the first push and lets it fail like this.
fn failed_push(claim: Claim, failure: Event) -> Walk {
    let mut walk = Walk::of(claim);
    walk.until_push();
    walk.hear(failure);
    walk
}

#[test]
fn a_failed_push_ends_its_generation_and_weighs_the_farm() {
    for failure in [status(500), status(413), Event::Pushed(Err(unknown()))] {
        let mut walk = failed_push(claim(), failure);
        assert_eq!(walk.last, Step::Weigh(Work::Push));
        walk.hear(evidence(false, false));
        assert_eq!((walk.numbering().strikes, walk.numbering().failing), (0, Some(true)));
        let base = walk.numbering().stray_base.clone();
        assert_eq!(base, Some(format!("{ORIGIN}/r1")));
        walk.until_end();
        assert_eq!(walk.count(|step| *step == Step::Complete), 1);
    }
}

#[test]
fn evidence_makes_it_a_strike_and_the_third_one_fails_the_session() {
    let mut walk = Walk::of(claim());
    for (strike, pause) in [(1, 30), (2, 120)] {
        walk.until_push();
        walk.hear(status(500));
        walk.hear(evidence(true, false));
        assert_eq!(walk.numbering().strikes, strike);
        assert_eq!(walk.numbering().pause, Duration::from_secs(pause));
    }
    walk.until_push();
    walk.hear(status(500));
    let Step::Park(reason) = walk.hear(evidence(true, false)) else { panic!("{:?}", walk.last) };
    assert!(reason.contains("500"), "{reason}");
    assert_eq!(walk.go_on(), Step::CleanUp { keep_bytes: true });
    walk.until_end();
}

#[test]
fn strikes_of_former_owners_count() {
    let mut walk = failed_push(Claim { strikes: 2, ..claim() }, status(500));
    assert!(matches!(walk.hear(evidence(true, true)), Step::Park(_)));
}

#[test]
fn an_outage_strikes_nobody_however_long_it_lasts() {
    let mut walk = Walk::of(claim());
    for _ in 0..50 {
        walk.until_push();
        walk.hear(status(500));
        walk.hear(evidence(false, false));
        assert_eq!(walk.numbering().strikes, 0);
        walk.now = walk.now.after(Duration::from_secs(3600));
    }
}

#[test]
fn a_lone_session_is_failed_once_its_failures_span_the_limit() {
    let mut walk = failed_push(claim(), status(500));
    walk.hear(evidence(false, true));
    walk.until_push();
    walk.now = walk.now.after(rules().strike_span - Duration::from_secs(60));
    walk.hear(status(500));
    assert!(matches!(walk.hear(evidence(false, true)), Step::Number(_)));
    walk.until_push();
    walk.now = walk.now.after(Duration::from_secs(60));
    walk.hear(status(500));
    assert!(matches!(walk.hear(evidence(false, true)), Step::Park(_)));
}

#[test]
fn failures_before_the_claim_belong_to_the_span() {
    let failing = Some(rules().strike_span);
    let mut walk = failed_push(Claim { failing, ..claim() }, status(500));
    assert!(matches!(walk.hear(evidence(false, true)), Step::Park(_)));
}

#[test]
fn getting_farther_clears_the_strikes() {
    let mut walk = Walk::of(Claim { strikes: 2, farthest: 50, ..claim() });
    walk.until(|step| matches!(step, Step::Push { from: 100, .. }));
    walk.hear(status(500));
    let numbering = walk.numbering();
    assert_eq!((numbering.strikes, numbering.farthest, numbering.failing), (0, 100, Some(false)));
}

#[test]
fn dying_at_the_same_place_is_not_farther() {
    let mut walk = Walk::of(Claim { farthest: 100, ..claim() });
    walk.until(|step| matches!(step, Step::Push { from: 100, .. }));
    walk.hear(status(500));
    assert_eq!(walk.last, Step::Weigh(Work::Push));
}

#[test]
fn a_flow_that_vanished_between_two_pushes_is_excused_a_few_times_only() {
    let mut walk = Walk::of(claim());
    for _ in 0..3 {
        walk.until_push();
        walk.hear(status(404));
        assert_eq!(walk.numbering().strikes, 0);
    }
    walk.until_push();
    assert_eq!(walk.hear(status(404)), Step::Weigh(Work::Push));
}

#[test]
fn a_finish_that_was_not_sent_is_sent_again_for_a_while() {
    let mut walk = Walk::of(claim());
    walk.until_finish();
    for _ in 0..6 {
        walk.hear(Event::Finished(Err(Trouble::NotSent("refused".to_owned()))));
        assert!(matches!(walk.last, Step::Wait { .. }));
        assert_eq!(walk.go_on(), Step::Finish);
    }
    walk.hear(Event::Finished(Err(Trouble::NotSent("refused".to_owned()))));
    walk.until_end();
    assert_eq!(walk.feed.generation(), Generation(2));
    assert_eq!(walk.count(|step| *step == Step::Complete), 1);
}

#[test]
fn a_finish_of_unknown_outcome_is_looked_for_and_never_asked_again() {
    for outcome in [finish_status(504), finish_status(502), Event::Finished(Err(unknown()))] {
        let mut walk = Walk::of(claim());
        walk.until_finish();
        assert_eq!(walk.hear(outcome), Step::Look);
        for _ in 0..20 {
            walk.hear(not_whole());
            assert_eq!(walk.wait_span(), rules().holder_poll);
            walk.answer(Event::Time);
        }
        walk.until_end();
        assert_eq!(walk.count(|step| *step == Step::Finish), 1);
        assert_eq!(walk.count(|step| matches!(step, Step::Delete | Step::Weigh(_))), 0);
        assert_eq!(walk.count(|step| *step == Step::Complete), 1);
        assert_eq!(walk.feed.generation(), Generation(1));
    }
}

#[test]
fn what_is_whole_must_be_seen_twice_unchanged() {
    let mut walk = Walk::of(claim());
    walk.until(|step| *step == Step::Look);
    for print in [1, 2, 3] {
        walk.hear(Event::Looked(Sight::Whole(print)));
        assert_eq!(walk.answer(Event::Time), Step::Look);
    }
    walk.hear(Event::Looked(Sight::Unreachable("refused".to_owned())));
    walk.answer(Event::Time);
    walk.hear(Event::Looked(Sight::Whole(3)));
    assert!(matches!(walk.last, Step::Wait { .. }));
    walk.answer(Event::Time);
    assert_eq!(walk.hear(Event::Looked(Sight::Whole(3))), Step::Complete);
}

#[test]
fn an_unknown_finish_is_deleted_only_after_its_deadline() {
    let mut walk = Walk::of(claim());
    walk.until_finish();
    walk.hear(finish_status(504));
    let watched = walk.watch(&not_whole());
    assert_eq!(walk.last, Step::Delete);
    assert!(watched >= BASE && watched < BASE + Duration::from_secs(10), "{watched:?}");
}

/// A finish of unknown outcome whose deadline is over.
fn overdue(rules: Rules) -> Walk {
    let mut walk = Walk::with(claim(), rules);
    walk.until_finish();
    walk.hear(finish_status(504));
    walk.watch(&not_whole());
    assert_eq!(walk.last, Step::Delete);
    walk
}

#[test]
fn a_deleted_finish_never_ships_so_the_next_generation_may() {
    let mut walk = overdue(rules());
    assert_eq!(walk.hear(Event::Deleted(Deleted::Gone)), Step::Weigh(Work::Finish));
    walk.hear(evidence(false, false));
    assert_eq!(walk.numbering().generation, Generation(2));
}

#[test]
fn a_finish_that_cannot_be_deleted_is_watched_for_a_grace() {
    for deleted in [Deleted::Unknown, Deleted::NoAnswer] {
        let mut walk = overdue(rules());
        walk.hear(Event::Deleted(deleted));
        let mut late = walk.clone();
        let watched = walk.watch(&not_whole());
        assert_eq!(walk.numbering().strikes, 0);
        assert!(watched >= GRACE && watched < GRACE + Duration::from_secs(10), "{watched:?}");
        late.watch(&Event::Looked(Sight::Whole(1)));
        assert_eq!(late.last, Step::Complete);
    }
}

#[test]
fn without_a_holder_address_a_404_at_the_deadline_is_believed() {
    let mut walk = overdue(Rules { holder: false, ..rules() });
    assert_eq!(walk.count(|step| *step == Step::Look), 0);
    assert_eq!(walk.clone().hear(Event::Deleted(Deleted::Unknown)), Step::Complete);
    walk.hear(Event::Deleted(Deleted::NoAnswer));
    assert_eq!(walk.watch(&not_whole()), GRACE);
    assert_eq!(walk.numbering().generation, Generation(2));
}

#[test]
fn a_finish_answered_404_or_500_has_lost_its_flow() {
    let mut gone = Walk::of(claim());
    gone.until_finish();
    gone.hear(finish_status(404));
    assert_eq!(gone.numbering().strikes, 0);
    let mut failed = Walk::of(claim());
    failed.until_finish();
    assert_eq!(failed.hear(finish_status(500)), Step::Weigh(Work::Finish));
    failed.hear(evidence(true, false));
    assert_eq!(failed.numbering().strikes, 1);
}

#[test]
fn a_finish_reported_done_without_its_files_is_a_strike_and_not_farther() {
    let mut walk = Walk::of(claim());
    walk.until(|step| *step == Step::Look);
    assert_eq!(walk.hear(not_whole()), Step::Weigh(Work::Finish));
    walk.hear(evidence(true, false));
    assert_eq!(walk.numbering().strikes, 1);
    let reason = walk.numbering().error.clone().unwrap();
    assert!(reason.contains("manifest.mpd"), "{reason}");
}

#[test]
fn holder_out_of_reach_after_a_reported_finish_is_waited_for() {
    let mut walk = Walk::of(claim());
    walk.until(|step| *step == Step::Look);
    for _ in 0..1000 {
        walk.hear(Event::Looked(Sight::Unreachable("refused".to_owned())));
        assert!(matches!(walk.last, Step::Wait { slow: true, .. }));
        walk.answer(Event::Time);
    }
    walk.until_end();
    assert_eq!(walk.count(|step| *step == Step::Complete), 1);
}

#[test]
fn a_released_finish_is_watched_for_what_is_left_of_its_deadline() {
    let mut walk = Walk::of(finishing(Duration::from_secs(400), false));
    assert!(matches!(walk.last, Step::Resolve { .. }));
    assert_eq!(walk.go_on(), Step::Look);
    let watched = walk.watch(&not_whole());
    let left = BASE - Duration::from_secs(400);
    assert!(watched >= left && watched < left + Duration::from_secs(10), "{watched:?}");
    assert_eq!(walk.last, Step::Delete);
    walk.hear(Event::Deleted(Deleted::Gone));
    assert_eq!(walk.numbering().generation, Generation(3));
}

#[test]
fn a_resumed_finish_that_never_came_is_nobodys_strike_whoever_left_it() {
    for owner_died in [true, false] {
        let mut walk = Walk::of(finishing(Duration::from_secs(400), owner_died));
        walk.go_on();
        walk.watch(&not_whole());
        walk.hear(Event::Deleted(Deleted::Gone));
        assert_eq!((walk.numbering().strikes, walk.numbering().failing), (0, None));
        assert_eq!(walk.count(|step| matches!(step, Step::Weigh(_))), 0);
    }
}

#[test]
fn a_finish_of_a_dead_owner_may_never_have_been_sent() {
    let mut walk = Walk::of(finishing(Duration::from_secs(5), true));
    walk.go_on();
    let watched = walk.watch(&not_whole());
    assert!(watched >= GRACE && watched < GRACE + Duration::from_secs(10), "{watched:?}");
    assert_eq!(walk.last, Step::Delete);
    walk.hear(Event::Deleted(Deleted::Gone));
    assert_eq!(walk.numbering().strikes, 0);
    walk.until_end();
    assert_eq!(walk.feed.generation(), Generation(3));
}

#[test]
fn a_resumed_finish_that_shipped_is_completed_without_a_word_to_fflow() {
    for died in [true, false] {
        let mut walk = Walk::of(finishing(Duration::from_secs(90), died));
        walk.until_end();
        assert_eq!(walk.count(|step| *step == Step::Complete), 1);
        let said =
            |step: &Step| matches!(step, Step::Create | Step::Push { .. } | Step::Finish | Step::Delete);
        assert_eq!(walk.count(said), 0);
    }
}

#[test]
fn a_resumed_finish_without_an_address_is_given_its_time_too() {
    let mut walk = Walk::of(finishing(Duration::ZERO, false));
    walk.hear(Event::Resolved(None));
    let watched = walk.watch(&not_whole());
    assert!(watched >= BASE + GRACE, "{watched:?}");
    assert_eq!(walk.numbering().generation, Generation(3));
}

#[test]
fn damaged_bytes_fail_the_session_and_are_kept() {
    let mut walk = Walk::of(claim());
    walk.until_push();
    assert_eq!(walk.hear(Event::Damaged("crc".to_owned())), Step::Park("crc".to_owned()));
    assert_eq!(walk.go_on(), Step::CleanUp { keep_bytes: true });
    walk.until_end();
}

/// Walks through every phase there is, as they stand after each event.
fn moments() -> Vec<Walk> {
    let mut moments = Vec::new();
    let scripts: [(Claim, Vec<Event>); 7] = [
        (claim(), vec![]),
        (settled(100), vec![]),
        (Claim { committed: 150, sealed: false, ..claim() }, vec![]),
        (claim(), vec![status(500), evidence(true, false), status(500), evidence(false, false)]),
        (Claim { strikes: 2, ..claim() }, vec![status(500), evidence(true, false)]),
        (claim(), vec![Event::Created(Created::NotSent("refused".into())), finish_status(504)]),
        (finishing(BASE - Duration::from_secs(1), false), vec![not_whole(), not_whole(), not_whole()]),
    ];
    for (claim, script) in scripts {
        let mut walk = Walk::of(claim);
        let mut script = script.into_iter().peekable();
        for _ in 0..200 {
            moments.push(walk.clone());
            let scripted = script.peek().is_some_and(|event| answers(&walk.last, event));
            match scripted.then(|| script.next()).flatten() {
                Some(event) => walk.answer(event),
                None => walk.go_on(),
            };
            if walk.feed.ended() {
                break;
            }
        }
    }
    moments
}

fn answers(step: &Step, event: &Event) -> bool {
    matches!(
        (step, event),
        (Step::Push { .. }, Event::Pushed(_))
            | (Step::Create, Event::Created(_))
            | (Step::Finish, Event::Finished(_))
            | (Step::Look, Event::Looked(_))
            | (Step::Weigh(_), Event::Weighed(_))
    )
}

#[test]
fn the_moments_cover_every_step() {
    let moments = moments();
    let asked = |wanted: fn(&Step) -> bool| moments.iter().any(|walk| wanted(&walk.last));
    assert!(asked(|step| matches!(step, Step::Resolve { .. })));
    assert!(asked(|step| matches!(step, Step::Number(_))));
    assert!(asked(|step| matches!(step, Step::Create)));
    assert!(asked(|step| matches!(step, Step::Record(_))));
    assert!(asked(|step| matches!(step, Step::Push { .. })));
    assert!(asked(|step| matches!(step, Step::Mark)));
    assert!(asked(|step| matches!(step, Step::Finish)));
    assert!(asked(|step| matches!(step, Step::Look)));
    assert!(asked(|step| matches!(step, Step::Delete)));
    assert!(asked(|step| matches!(step, Step::Weigh(_))));
    assert!(asked(|step| matches!(step, Step::Complete)));
    assert!(asked(|step| matches!(step, Step::Park(_))));
    assert!(asked(|step| matches!(step, Step::CleanUp { .. })));
    assert!(asked(|step| matches!(step, Step::Release { .. })));
    assert!(asked(|step| matches!(step, Step::Wait { slow: true, .. })));
    assert!(asked(|step| matches!(step, Step::Wait { slow: false, .. })));
}

#[test]
fn a_fenced_feed_stops_at_once_wherever_it_is() {
    for mut walk in moments() {
        let recording = matches!(walk.last, Step::Record(_));
        let stray = recording.then(|| walk.feed.name());
        assert_eq!(walk.hear(Event::Fenced), Step::Stop { stray });
    }
}

#[test]
fn a_feed_that_is_to_leave_begins_nothing_but_what_its_row_waits_for_and_ends() {
    for mut walk in moments() {
        let before = walk.asked.len();
        let numbering = matches!(walk.last, Step::Number(_));
        walk.hear(Event::Leave { now: false });
        walk.until_end();
        let begun = |step: &Step| match step {
            Step::Push { .. } | Step::Mark | Step::Finish | Step::Look => true,
            Step::Create => !numbering,
            _ => false,
        };
        let after: Vec<_> = walk.asked[before..].iter().filter(|step| begun(step)).collect();
        assert!(after.is_empty(), "{after:?}");
    }
}

#[test]
fn a_feed_that_must_leave_now_releases_at_once() {
    for mut walk in moments() {
        let releasing = matches!(walk.last, Step::Release { .. });
        walk.hear(Event::Leave { now: false });
        walk.hear(Event::Leave { now: true });
        assert!(matches!(walk.last, Step::Release { .. }), "{releasing}: {:?}", walk.last);
        walk.until_end();
    }
}

#[test]
fn a_push_in_flight_is_heard_before_leaving_settled() {
    let mut walk = Walk::of(claim());
    walk.until(|step| matches!(step, Step::Push { from: 50, .. }));
    assert_eq!(walk.hear(Event::Leave { now: false }), Step::Stay);
    assert_eq!(walk.clone().hear(Event::Leave { now: true }), Step::Release { settled: false, fed: 50 });
    assert_eq!(walk.go_on(), Step::Release { settled: true, fed: 100 });
}

#[test]
fn a_generation_that_is_being_written_gets_its_process_before_leaving_settled() {
    let mut walk = Walk::of(claim());
    walk.until(|step| matches!(step, Step::Number(_)));
    assert_eq!(walk.hear(Event::Leave { now: false }), Step::Stay);
    assert_eq!(walk.go_on(), Step::Create);
    assert!(matches!(walk.go_on(), Step::Record(_)));
    assert_eq!(walk.go_on(), Step::Release { settled: true, fed: 0 });
}

#[test]
fn a_refusal_of_the_database_hands_the_session_back_whatever_was_asked() {
    let asks = |step: &Step| {
        matches!(step, Step::Number(_) | Step::Record(_) | Step::Push { .. } | Step::Mark | Step::Weigh(_))
            || matches!(step, Step::Complete | Step::Park(_))
    };
    for mut walk in moments().into_iter().filter(|walk| asks(&walk.last)) {
        walk.hear(Event::Refused("as scripted".into()));
        assert!(matches!(walk.last, Step::Release { .. }), "{:?}", walk.last);
        walk.until_end();
    }
}

#[test]
fn a_finish_in_flight_is_left_to_the_next_owner() {
    let mut walk = Walk::of(claim());
    walk.until_finish();
    let step = walk.hear(Event::Leave { now: false });
    assert_eq!(step, Step::Release { settled: false, fed: TOTAL });
}

/// All answers to what was asked last, the good one first.
fn possible_answers(walk: &Walk) -> Vec<Event> {
    let mut answers = vec![walk.good_answer()];
    let trouble = || [Trouble::NotSent("refused".into()), unknown()];
    let statuses = [404, 413, 500, 504].map(|code| Trouble::Status(code, "no".into()));
    let troubles = trouble().into_iter().chain(statuses);
    match walk.last {
        Step::Resolve { .. } => answers.push(Event::Resolved(None)),
        Step::Create => answers.extend([
            Event::Created(Created::NotSent("refused".into())),
            Event::Created(Created::Failed("500".into())),
        ]),
        Step::Push { .. } => {
            answers.extend(troubles.map(|trouble| Event::Pushed(Err(trouble))));
            answers.push(Event::Damaged("crc".into()));
        }
        Step::Finish => answers.extend(troubles.map(|trouble| Event::Finished(Err(trouble)))),
        Step::Look => answers.extend([
            Event::Looked(Sight::Whole(8)),
            not_whole(),
            Event::Looked(Sight::Unreachable("refused".into())),
        ]),
        Step::Delete => {
            answers.extend([Event::Deleted(Deleted::Unknown), Event::Deleted(Deleted::NoAnswer)]);
        }
        Step::Weigh(_) => answers.extend([evidence(true, false), evidence(false, true)]),
        Step::Number(_) | Step::Record(_) | Step::Mark | Step::Complete | Step::Park(_) => {
            answers.extend([Event::Fenced, Event::Refused("as scripted".into())]);
        }
        Step::Stay | Step::Wait { .. } | Step::CleanUp { .. } | Step::Release { .. } | Step::Stop { .. } => {}
    }
    answers
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let rows = (0..4i32, any::<bool>(), any::<bool>(), 0..=TOTAL, 0..=TOTAL, 0..3i32);
    let past = (prop::option::of(0..1000u64), prop::option::of(0..5000u64), any::<bool>());
    (rows, past).prop_map(|((generation, sealed, settled, committed, fed, strikes), past)| {
        let committed = if sealed { TOTAL } else { committed.min(TOTAL - 1) };
        let finished = past.0.filter(|_| sealed && generation > 0);
        Claim {
            generation: Generation(generation),
            sealed,
            committed,
            settled: settled && generation > 0 && finished.is_none(),
            fed: fed.min(committed),
            farthest: fed,
            strikes,
            finish_sent: finished.map(Duration::from_secs),
            failing: past.1.map(Duration::from_secs),
            owner_died: past.2,
            ..claim()
        }
    })
}

proptest! {
    #[test]
    fn whatever_is_answered_no_rule_is_broken_and_the_feed_comes_to_an_end(
        claim in any_claim(),
        holder in any::<bool>(),
        script in prop::collection::vec((0..40u8, 0..40usize, 0..=TOTAL), 0..120),
    ) {
        let mut walk = Walk::with(claim, Rules { holder, ..rules() });
        for (what, which, bytes) in script {
            if walk.feed.ended() {
                break;
            }
            match what {
                0 => { walk.hear(Event::Leave { now: which % 2 == 0 }); }
                1 if which == 0 => { walk.hear(Event::Fenced); }
                2..=8 => {
                    let sealed = bytes > TOTAL / 2;
                    walk.hear(Event::Advanced { committed: if sealed { TOTAL } else { bytes }, sealed });
                }
                9 => walk.now = walk.now.after(Duration::from_secs(which as u64 * 20)),
                _ => {
                    let answers = possible_answers(&walk);
                    walk.answer(answers[which % answers.len()].clone());
                }
            }
        }
        if !walk.feed.ended() {
            walk.hear(Event::Advanced { committed: TOTAL, sealed: true });
            walk.until_end();
        }
        let releases = walk.count(|step| matches!(step, Step::Release { .. }));
        prop_assert!(releases <= 1);
    }
}
