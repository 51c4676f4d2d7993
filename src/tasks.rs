//! Work that an actor has begun and waits for, any amount of it at once.
//!
//! A context polls everything that was spawned on it whenever it wakes, so that n chunks in flight cost n² polls. Of the
//! tasks here only those are polled that were woken. They end with the actor's context, as spawned futures do: an actor
//! that restarts replaces its `Tasks`.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

/// What an actor does with the outcome of a task.
type Done<A> = Box<dyn FnOnce(&mut A, &mut <A as Actor>::Context)>;

/// The tasks of one actor.
pub(crate) struct Tasks<A: Actor> {
    line: Rc<RefCell<Line<A>>>,
}

struct Line<A: Actor> {
    running: FuturesUnordered<LocalBoxFuture<'static, Done<A>>>,
    /// Wakes the context for a task that was not polled yet.
    waker: Option<Waker>,
    driven: bool,
}

impl<A: Actor> Default for Tasks<A> {
    fn default() -> Self {
        let line = Line { running: FuturesUnordered::new(), waker: None, driven: false };
        Tasks { line: Rc::new(RefCell::new(line)) }
    }
}

impl<A: Actor<Context = Context<A>>> Tasks<A> {
    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.line.borrow().running.len()
    }

    /// Runs `work` and hands its outcome to `done`.
    pub(crate) fn spawn<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
        done: impl FnOnce(T, &mut A, &mut Context<A>) + 'static,
        ctx: &mut Context<A>,
    ) {
        let task = async move {
            let outcome = work.await;
            let done: Done<A> = Box::new(move |actor, ctx| done(outcome, actor, ctx));
            done
        };
        let mut line = self.line.borrow_mut();
        line.running.push(Box::pin(task));
        if !std::mem::replace(&mut line.driven, true) {
            ctx.spawn(Driver { line: self.line.clone() });
        }
        if let Some(waker) = line.waker.take() {
            waker.wake();
        }
    }
}

/// Polls the tasks for as long as the context lives.
struct Driver<A: Actor> {
    line: Rc<RefCell<Line<A>>>,
}

impl<A: Actor> ActorFuture<A> for Driver<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        loop {
            // Given back before `done` runs: it may begin the next task.
            let next = self.line.borrow_mut().running.poll_next_unpin(task);
            match next {
                Poll::Ready(Some(done)) => done(actor, ctx),
                Poll::Ready(None) | Poll::Pending => {
                    self.line.borrow_mut().waker = Some(task.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    /// Counts how its tasks end.
    struct Worker {
        tasks: Tasks<Worker>,
        ended: Rc<Cell<u32>>,
    }

    impl Actor for Worker {
        type Context = Context<Self>;
    }

    impl Supervised for Worker {
        fn restarting(&mut self, _: &mut Context<Self>) {
            self.tasks = Tasks::default();
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    enum Order {
        /// A task that ends when this does, and then begins a second one.
        Wait(oneshot::Receiver<()>),
        Restart,
    }

    impl Handler<Order> for Worker {
        type Result = ();

        fn handle(&mut self, order: Order, ctx: &mut Context<Self>) {
            let Order::Wait(over) = order else { return ctx.stop() };
            let first = |_, worker: &mut Worker, ctx: &mut Context<Worker>| {
                worker.ended.set(worker.ended.get() + 1);
                let second = |(), worker: &mut Worker, _: &mut Context<Worker>| {
                    worker.ended.set(worker.ended.get() + 1);
                };
                worker.tasks.spawn(async {}, second, ctx);
            };
            self.tasks.spawn(over, first, ctx);
        }
    }

    fn worker() -> (Addr<Worker>, Rc<Cell<u32>>) {
        let ended = Rc::new(Cell::new(0));
        let counter = ended.clone();
        (Supervisor::start(|_| Worker { tasks: Tasks::default(), ended: counter }), ended)
    }

    async fn reaches(ended: &Cell<u32>, count: u32) {
        let reached = async {
            while ended.get() != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), reached).await.unwrap();
    }

    #[actix_rt::test]
    async fn each_outcome_is_handed_over_once_whatever_the_order() {
        let (worker, ended) = worker();
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let (end, over) = oneshot::channel();
            worker.send(Order::Wait(over)).await.unwrap();
            waiting.push(end);
        }
        assert_eq!(ended.get(), 0);
        for (count, end) in (1..).zip(waiting.into_iter().rev()) {
            end.send(()).unwrap();
            reaches(&ended, 2 * count).await;
        }
    }

    #[actix_rt::test]
    async fn a_restart_ends_what_runs_and_the_next_task_runs() {
        let (worker, ended) = worker();
        let (old, over) = oneshot::channel();
        worker.send(Order::Wait(over)).await.unwrap();
        worker.send(Order::Restart).await.unwrap();
        let (new, over) = oneshot::channel();
        worker.send(Order::Wait(over)).await.unwrap();
        assert!(old.is_closed(), "nobody waits for it any more");
        new.send(()).unwrap();
        reaches(&ended, 2).await;
    }
}
