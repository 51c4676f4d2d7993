//! Every later write of a feed is guarded by session, epoch, owner, generation and state: a write that waits for its row
//! meets the row as it has become, and each part of the guard fences one case that no other part sees.

use std::future::Future;

use uploader_v4::domain::feed::{Claim, Numbering};
use uploader_v4::domain::ids::{FlowName, Generation, ReplicaId};
use uploader_v4::domain::route::{self, AllowList, FlowUrl};
use uploader_v4::gateways::upload_store::desk::{OperatorDesk, PgDesk};
use uploader_v4::gateways::upload_store::feeds::{Ending, FeedStore, GUARD, Guard, PgFeedStore, Written};

use super::stage::{At, Stage, guard, guard_values, id, mutated, replica, run, wanted};
use crate::world::Upload;

/// One session in its first generation, whose owner has a write on its way.
struct Late {
    stage: Stage,
    upload: Upload,
    me: ReplicaId,
    claim: Claim,
    guard: Guard,
}

/// Whether the late write was let through.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Through,
    Nowhere,
}

impl Late {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let upload = stage.one_sealed().await;
        let me = replica();
        stage.set(&upload, "generation = 1").await;
        let claim = stage.claim(me, &upload).await;
        let guard = guard(me, &claim);
        Late { stage, upload, me, claim, guard }
    }

    fn store(&self) -> PgFeedStore {
        PgFeedStore::new(self.stage.one.clone())
    }

    /// The row changes by `change`, the late write waits for it: by the real guard, or by one without `part`.
    async fn crosses<A>(&self, part: Option<(&str, &str)>, change: impl Future<Output = A>) -> Came {
        let gate = self.stage.gate(At::Commit("UPDATE ON uploader.session")).await;
        let crossed = self.stage.cross(gate, change, self.late_write(part)).await;
        assert!(crossed.waited, "the late write was on its way before the change was committed");
        crossed.two
    }

    async fn late_write(&self, without: Option<(&str, &str)>) -> Came {
        let Some((part, by)) = without else {
            let store = PgFeedStore::new(self.stage.two.clone());
            let written = store.record(self.guard, &address(&self.guard)).await.unwrap();
            return if written == Written::Done { Came::Through } else { Came::Nowhere };
        };
        let guard = mutated(GUARD, part, by);
        let write = format!("UPDATE uploader.session SET flow_url = $5 WHERE {guard}");
        let url = address(&self.guard).as_str().to_owned();
        let values = guard_values(self.guard).into_iter().chain([url.into()]);
        match run(&self.stage.two, &write, values).await.unwrap().rows_affected() {
            0 => Came::Nowhere,
            _ => Came::Through,
        }
    }
}

fn address(guard: &Guard) -> FlowUrl {
    let name: FlowName = guard.generation.name(guard.session);
    let base = "http://127.0.0.1:4050";
    route::at_replica(&format!("{base}/r1"), &name, &AllowList::new([base])).unwrap()
}

const EPOCH: (&str, &str) = ("epoch = $2", "$2::bigint IS NOT NULL");
const OWNER: (&str, &str) = ("owner = $3", "$3::uuid IS NOT NULL");
const GENERATION: (&str, &str) = ("generation = $4", "$4::int IS NOT NULL");
const STATE: (&str, &str) = (" AND state IN ('OPEN', 'SEALED')", "");

#[tokio::test]
async fn a_write_of_an_ownership_that_was_claimed_again_here_is_fenced_by_its_epoch() {
    // The claim's answer was lost, or its feed panicked: the same replica claims again, in the same generation.
    for (part, came) in [(None, Came::Nowhere), (Some(EPOCH), Came::Through)] {
        let late = Late::new().await;
        let only = [id(&late.upload)];
        let (store, again) = (late.store(), wanted(late.me, Some(&only)));
        assert_eq!(late.crosses(part, store.claim(&again)).await, came, "{part:?}");
        assert_eq!(late.stage.row(&late.upload, "epoch").await, "2");
    }
}

#[tokio::test]
async fn a_write_that_comes_after_its_own_release_is_fenced_by_the_owner() {
    for (part, came) in [(None, Came::Nowhere), (Some(OWNER), Came::Through)] {
        let late = Late::new().await;
        let store = late.store();
        assert_eq!(late.crosses(part, store.release(late.guard, true, 1000)).await, came, "{part:?}");
        assert_eq!(late.stage.row(&late.upload, "epoch, owner IS NULL, settled").await, "1 t t");
    }
}

#[tokio::test]
async fn the_address_of_a_generation_that_was_given_up_meanwhile_is_fenced_by_the_generation() {
    for (part, came) in [(None, Came::Nowhere), (Some(GENERATION), Came::Through)] {
        let late = Late::new().await;
        let next = Numbering {
            generation: Generation(2),
            stray: Some(Generation(1).name(id(&late.upload))),
            stray_base: None,
            farthest: 0,
            strikes: 0,
            failing: None,
            pause: std::time::Duration::ZERO,
            error: None,
        };
        let store = late.store();
        assert_eq!(late.crosses(part, store.number(late.guard, &next)).await, came, "{part:?}");
        let stale = late.stage.row(&late.upload, "generation, flow_url").await;
        let expected = if came == Came::Through { "2 http://127.0.0.1:4050/r1/" } else { "2" };
        assert!(stale.starts_with(expected), "a dead process's address in the new generation: {stale}");
    }
}

#[tokio::test]
async fn a_write_to_a_session_that_somebody_ended_by_hand_is_fenced_by_the_state() {
    for (part, came) in [(None, Came::Nowhere), (Some(STATE), Came::Through)] {
        let late = Late::new().await;
        let by_hand = "UPDATE uploader.session SET state = 'EXPIRED', ended_at = now() WHERE session_id = $1";
        let change = run(&late.stage.one, by_hand, [late.upload.session.into()]);
        assert_eq!(late.crosses(part, change).await, came, "{part:?}");
    }
}

/// The state is the second line: each end that the service itself writes takes the owner away as well.
#[tokio::test]
async fn every_end_of_a_session_fences_its_owner_twice() {
    let ending = Ending { reason: "poison".to_owned(), stray: None, stray_base: None };
    for part in [None, Some(STATE), Some(OWNER)] {
        let late = Late::new().await;
        assert_eq!(late.crosses(part, late.store().complete(late.guard, &late.claim)).await, Came::Nowhere);
        let late = Late::new().await;
        let park = late.store();
        assert_eq!(late.crosses(part, park.park(late.guard, &late.claim, &ending)).await, Came::Nowhere);
        let late = Late::new().await;
        let desk = PgDesk::new(late.stage.one.clone());
        assert_eq!(late.crosses(part, desk.expire(id(&late.upload), true, "test")).await, Came::Nowhere);
    }
}
