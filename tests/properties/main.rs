//! The chunk road under anything that clients may send: header tables as they stand on the wire go through the real
//! validator and the real registry, and what was acked is exactly what is stored.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod road;
mod sent;

use proptest::prelude::*;

use crate::road::{Road, SESSIONS, TOTAL};
use crate::sent::{Expected, Sent, anything, byte};

fn runs(case: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(case);
}

/// Every delivery is settled once, as what it is.
fn settled_as_what_they_are(road: &Road, deliveries: &[Sent]) {
    for (tag, sent) in deliveries.iter().enumerate() {
        let verdicts = road.verdicts(tag as u64);
        assert_eq!(verdicts.len(), 1, "delivery {tag} {sent:?}: {verdicts:?}");
        match sent.expected {
            Expected::Judged => assert!(verdicts[0].is_judged(), "{sent:?}: {verdicts:?}"),
            Expected::Refused => assert!(verdicts[0].is_malformed(), "{sent:?}: {verdicts:?}"),
            Expected::Rejected => assert!(verdicts[0].is_reject(), "{sent:?}: {verdicts:?}"),
        }
    }
}

/// What is stored begins at 0, has no gap, and is made of acked chunks only; each acked chunk lies where it said.
async fn stored_is_the_acked_prefix(road: &Road, deliveries: &[Sent]) {
    for session in 0..SESSIONS {
        let stored = road.stored(session).await;
        let mut covered = vec![false; stored.len()];
        for (tag, sent) in deliveries.iter().enumerate() {
            let acked = sent.session == session && road.verdicts(tag as u64)[0].is_ack();
            if !acked {
                continue;
            }
            let (from, to) = (sent.start as usize, sent.start as usize + sent.body.len());
            assert!(to <= stored.len(), "{sent:?} is acked, but {} bytes are stored", stored.len());
            assert_eq!(stored[from..to], sent.body, "other bytes than the acked ones of {sent:?}");
            covered[from..to].fill(true);
        }
        assert!(covered.iter().all(|byte| *byte), "bytes are stored that nobody was acked");
    }
    road.rows_are_sound();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_interleaving_leaves_exactly_the_accepted_prefix(
        deliveries in prop::collection::vec(anything(), 1..80)
    ) {
        runs(async move {
            let road = Road::new();
            deliveries.iter().enumerate().for_each(|(tag, sent)| road.send(tag as u64, sent));
            road.all_settled(deliveries.len()).await;
            settled_as_what_they_are(&road, &deliveries);
            stored_is_the_acked_prefix(&road, &deliveries).await;
        });
    }
}

proptest! {
    // Its chunks go one after the other, as those of a browser.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_came_before_a_client_that_goes_on_in_order_completes(
        deliveries in prop::collection::vec(anything(), 0..40), size in 50..100usize
    ) {
        runs(async move {
            let road = Road::new();
            deliveries.iter().enumerate().for_each(|(tag, sent)| road.send(tag as u64, sent));
            road.all_settled(deliveries.len()).await;
            let mut sent = deliveries.len();
            for session in 0..SESSIONS {
                let before = road.stored(session).await;
                for start in (before.len()..TOTAL as usize).step_by(size) {
                    let body = (start..(start + size).min(TOTAL as usize)).map(|at| byte(session, at)).collect();
                    road.send(sent as u64, &Sent::sound(session, start as i64, body));
                    sent += 1;
                    road.all_settled(sent).await;
                    assert!(road.verdicts(sent as u64 - 1)[0].is_ack());
                }
                let rest = (before.len()..TOTAL as usize).map(|at| byte(session, at));
                let whole: Vec<u8> = before.iter().copied().chain(rest).collect();
                assert_eq!(road.stored(session).await, whole);
                assert!(road.is_sealed(session));
            }
            road.rows_are_sound();
        });
    }
}
