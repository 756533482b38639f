//! Seats as guards: they come back however a request ends. The clock stands still until nobody has anything to do.

mod together;

use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;

use super::*;

const PATIENCE: Duration = Duration::from_secs(15);

fn gate(seats: u32, seats_per_user: u32, waiting_per_user: usize) -> Arc<Gate> {
    Gate::new("test", Bounds { seats, seats_per_user, waiting_per_user, waiting: 100 })
}

fn user(name: &str) -> Arc<str> {
    name.into()
}

fn count(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_seat_that_comes_back_goes_to_whoever_waits() {
    let gate = gate(1, 1, 10);
    let first = gate.enter(&user("a"), 1, PATIENCE).await.unwrap();
    let waiting = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.enter(&user("b"), 1, PATIENCE).await.map(|_seat| ()) }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(gate.load(), (1, 1));
    drop(first);
    waiting.await.unwrap().unwrap();
    assert_eq!(gate.load(), (0, 0));
    assert_eq!((count(&gate.counts.dispatched), count(&gate.counts.waited_microseconds)), (2, 3_000_000));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_or_in_too_long_a_queue() {
    let gate = gate(1, 1, 1);
    let _first = gate.enter(&user("a"), 1, PATIENCE).await.unwrap();
    let begun = Instant::now();
    let a = user("a");
    let (second, third) = tokio::join!(gate.enter(&a, 1, PATIENCE), gate.enter(&a, 1, PATIENCE));
    assert_eq!((second.err(), third.err()), (Some(Refused::TimeOut), Some(Refused::Full)));
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(gate.load(), (1, 0));
    let counts = &gate.counts;
    assert_eq!((count(&counts.full), count(&counts.timed_out), count(&counts.cancelled)), (1, 1, 0));
}

/// Also one that was given a seat at the very moment that it left.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_takes_nothing_along() {
    let gate = gate(1, 1, 10);
    let first = gate.enter(&user("a"), 1, PATIENCE).await.unwrap();
    let (b, c) = (user("b"), user("c"));
    {
        let mut leaving = Box::pin(gate.enter(&b, 1, PATIENCE));
        let mut leaving_seated = Box::pin(gate.enter(&c, 1, PATIENCE));
        std::future::poll_fn(|context| {
            assert!(leaving.as_mut().poll(context).is_pending() && leaving_seated.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(leaving);
        drop(first);
        assert_eq!(gate.load(), (1, 0), "the seat is the second one's");
    }
    assert_eq!(gate.load(), (0, 0));
    assert_eq!(count(&gate.counts.cancelled), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_keeps_its_seat_while_it_is_sent_but_not_for_ever() {
    let fair = Fair::new(&Limits::default());
    let demand = Demand { seats: Some((Class::ReadOnly, 3)), lasts: false };
    let taken = || fair.gate(Class::ReadOnly).load().0;
    let admit = async || fair.admit(&user("a"), false, demand, &SizeHint::with_exact(0)).await.unwrap();

    let short = admit().await.until_sent(Response::new(Body::from("short")));
    assert_eq!((taken(), short.into_body().collect().await.unwrap().to_bytes().len()), (0, 5));

    let long = || Body::from(vec![0; 1 << 20]);
    let answer = admit().await.until_sent(Response::new(long()));
    assert_eq!(taken(), 3);
    answer.into_body().collect().await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(taken(), 0);

    let answer = admit().await.until_sent(Response::new(long()));
    tokio::time::sleep(SENDING_LONGEST - Duration::from_secs(1)).await;
    assert_eq!(taken(), 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(taken(), 0, "whoever reads so slowly costs nothing");
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_one_user_leave_room_for_others() {
    let fair = Fair::new(&Limits::default());
    let demand = Demand { seats: Some((Class::Mutating, 1)), lasts: false };
    let longest = SizeHint::with_exact(3 << 20);
    let greedy = user("greedy");
    let mut held = Vec::new();
    while let Ok(admitted) = timeout(Duration::ZERO, fair.admit(&greedy, false, demand, &longest)).await {
        held.push(admitted.unwrap());
    }
    assert_eq!(held.len(), 5, "half of 32 MiB");
    assert!(timeout(Duration::ZERO, fair.admit(&user("other"), false, demand, &longest)).await.is_ok());
    let beat = Demand { seats: Some((Class::NodeHigh, 1)), lasts: false };
    assert!(timeout(Duration::ZERO, fair.admit(&greedy, false, beat, &SizeHint::with_exact(100))).await.is_ok());
}

#[test]
fn those_without_a_name_are_told_apart_by_network() {
    let name = |user: &User, address: &str| name(user, user.is_anonymous(), Some(address.parse().unwrap())).to_string();
    let nobody = User::anonymous();
    assert_eq!(name(&User::admin(), "192.0.2.1"), "system:admin");
    assert_eq!(name(&nobody, "192.0.2.1"), "at 192.0.2.1");
    assert_eq!(name(&nobody, "::ffff:192.0.2.1"), "at 192.0.2.1");
    assert_eq!(name(&nobody, "2001:db8:1:2:3::4"), name(&nobody, "2001:db8:1:2::9"));
    assert_ne!(name(&nobody, "2001:db8:1:2::9"), name(&nobody, "2001:db8:1:3::9"));
}
