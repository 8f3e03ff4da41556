//! Many who ask the queue database the same at the same time, by one statement. Owns: who asks for whom. Never: what is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot::{self, Sender, error::TryRecvError};

/// Whoever comes while a question is under way waits for its end; then one of them asks for all who came. Nobody waits for company.
pub struct Together<Q, A> {
    turn: tokio::sync::Mutex<()>,
    waiting: Mutex<Vec<(Q, Sender<A>)>>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Together<Q, A> {
        Together { turn: tokio::sync::Mutex::default(), waiting: Mutex::default() }
    }
}

impl<Q: Copy, A> Together<Q, A> {
    /// The answer to `question`. `ask` answers several, each in its place, and bounds its wait.
    ///
    /// # Errors
    /// That of `ask`. Where one asked for others in vain, each of these asks for itself.
    pub async fn ask<'a, E>(
        &self,
        question: Q,
        ask: impl Fn(Vec<Q>) -> BoxFuture<'a, Result<Vec<A>, E>>,
    ) -> Result<A, E> {
        let (give, mut given) = oneshot::channel();
        self.lock().push((question, give));
        let answer = tokio::select! {
            biased;
            answer = &mut given => answer.ok(),
            _turn = self.turn.lock() => match given.try_recv() {
                Err(TryRecvError::Empty) => {
                    let (questions, givers): (Vec<_>, Vec<_>) = self.gathered().into_iter().unzip();
                    for (giver, answer) in givers.into_iter().zip(ask(questions).await?) {
                        // Whoever went meanwhile needs none.
                        let _ = giver.send(answer);
                    }
                    given.try_recv().ok()
                }
                answer => answer.ok(),
            },
        };
        match answer {
            Some(answer) => Ok(answer),
            None => Ok(ask(vec![question]).await?.pop().expect("an answer in its place")),
        }
    }

    /// Who waits by now, without those who went.
    fn gathered(&self) -> Vec<(Q, Sender<A>)> {
        let mut gathered = std::mem::take(&mut *self.lock());
        gathered.retain(|(_, give)| !give.is_closed());
        gathered
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Q, Sender<A>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// What was asked, one entry for each time; the first waits to be told.
    #[derive(Default)]
    struct Asked {
        times: Mutex<Vec<Vec<i32>>>,
        go_on: Notify,
        fails: AtomicBool,
    }

    impl Asked {
        async fn twice(&self, questions: Vec<i32>) -> Result<Vec<i32>, &'static str> {
            let first = {
                let mut times = self.times.lock().expect("the times");
                times.push(questions.clone());
                times.len() == 1
            };
            if first {
                self.go_on.notified().await;
            }
            let fails = questions.len() > 1 && self.fails.load(Ordering::SeqCst);
            if fails { Err("refused") } else { Ok(questions.iter().map(|question| 2 * question).collect()) }
        }

        /// 1 asks; 2, 3 and 4 come meanwhile.
        async fn four(&self, together: &Together<i32, i32>) -> Vec<Result<i32, &'static str>> {
            let all = join_all((1..=4).map(|n| together.ask(n, |questions| self.twice(questions).boxed())));
            tokio::join!(all, async {
                tokio::task::yield_now().await;
                self.go_on.notify_one();
            })
            .0
        }

        fn times(&self) -> Vec<Vec<i32>> {
            self.times.lock().expect("the times").clone()
        }
    }

    #[tokio::test]
    async fn one_asks_for_all_who_came_meanwhile() {
        let (together, asked) = (Together::default(), Asked::default());
        assert_eq!(asked.four(&together).await, [Ok(2), Ok(4), Ok(6), Ok(8)]);
        assert_eq!(asked.times(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn who_was_asked_for_in_vain_asks_for_himself() {
        let (together, asked) = (Together::default(), Asked::default());
        asked.fails.store(true, Ordering::SeqCst);
        assert_eq!(asked.four(&together).await, [Ok(2), Err("refused"), Ok(6), Ok(8)]);
        assert_eq!(asked.times(), [vec![1], vec![2, 3, 4], vec![3], vec![4]]);
    }

    #[tokio::test]
    async fn nobody_is_asked_for_who_went() {
        let (together, asked) = (Together::default(), Asked::default());
        let first = together.ask(1, |questions| asked.twice(questions).boxed());
        let rest = async {
            let mut gone = Box::pin(together.ask(2, |questions| asked.twice(questions).boxed()));
            assert!(futures::poll!(&mut gone).is_pending());
            drop(gone);
            asked.go_on.notify_one();
        };
        assert_eq!(tokio::join!(first, rest).0, Ok(2));
        assert_eq!(together.ask(3, |questions| asked.twice(questions).boxed()).await, Ok(6));
        assert_eq!(asked.times(), [vec![1], vec![3]]);
    }
}
