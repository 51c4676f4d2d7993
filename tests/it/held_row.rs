//! Somebody holds one session's row on a second connection: its own chunk waits, a hundred others feel nothing.

use std::time::Duration;

use crate::client::answer;
use crate::crowd::{Crowd, ROUNDS, Waits, fire, full};
use crate::world::{World, bytes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_held_for_seconds_delays_its_own_session_and_no_other() {
    let span = Duration::from_secs(if full() { 10 } else { 3 });
    let world = World::alone(&[]).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let crowd = Crowd::gather(&world).await;
    let file = bytes(310, 1000 * (ROUNDS + 1));
    let victim = world.announce_one(file.len()).await;
    client.upload_range(&victim, &file, 1000, 0, 1000).await;
    let own = "UPDATE uploader.session SET strikes = strikes WHERE session_id = $1";

    let (mut calm, mut meanwhile) = (Vec::new(), Vec::new());
    let compared = async {
        crowd.all_here(&world).await;
        for round in 1..=ROUNDS {
            crowd.watch(span, &mut calm).await;
            let holding = world.hold(own, victim.session).await;
            let start = round * 1000;
            let chunk = &file[start..start + 1000];
            let mut held = client.begin(&victim.session.to_string(), start as i64, chunk).await;
            crowd.watch(span, &mut meanwhile).await;
            assert!(held.try_recv().is_err(), "not answered while its row is held");
            holding.commit().await.unwrap();
            assert!(answer(held).await.is_ack(), "and answered then");
        }
    };
    crowd.during(&client, compared).await;
    let (calm, meanwhile) = (Waits::of(calm), Waits::of(meanwhile));
    let held = format!("row held {ROUNDS} times for {span:?}");
    fire("held row", &format!("calm: {}; {held}: {}", calm.figures(), meanwhile.figures()));
    meanwhile.assert_unharmed(&calm);
    world.distributed(&victim).await;
}
