//! Asks whoever is due, at every tick, and takes answers as they come: an agent that says nothing for long holds up
//! nobody else. Who is due, what is asked and what an answer means is the caller's business.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

/// Those who are asked by turns.
pub(super) trait Turns {
    /// What comes of asking one of them.
    type Answer;
    /// The asking.
    type Asking: Future<Output = Self::Answer>;

    /// Begins to ask everybody whose turn it is.
    fn due(&mut self) -> Vec<Self::Asking>;

    /// Takes an answer.
    fn answered(&mut self, answer: Self::Answer);
}

/// Asks until the ticks end.
pub(super) async fn ask(mut ticks: mpsc::Receiver<()>, mut turns: impl Turns) {
    let mut asking = FuturesUnordered::new();
    loop {
        tokio::select! {
            tick = ticks.recv() => match tick {
                Some(()) => asking.extend(turns.due()),
                None => return,
            },
            Some(answer) = asking.next() => turns.answered(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, pending, ready};

    use super::*;

    /// Two agents: one answers, the other one never does.
    struct Two {
        asked: Vec<&'static str>,
        answered: mpsc::Sender<&'static str>,
    }

    impl Turns for Two {
        type Answer = &'static str;
        type Asking = BoxFuture<'static, &'static str>;

        fn due(&mut self) -> Vec<Self::Asking> {
            let first = self.asked.is_empty();
            self.asked.push("well");
            let well = ready("well").boxed();
            if first {
                vec![pending().boxed(), well]
            } else {
                vec![well]
            }
        }

        fn answered(&mut self, answer: &'static str) {
            self.answered.try_send(answer).unwrap();
        }
    }

    #[tokio::test]
    async fn an_agent_that_never_answers_holds_up_nobody() {
        let (tick, ticks) = mpsc::channel(1);
        let (answered, mut answers) = mpsc::channel(1);
        let turns = Two {
            asked: Vec::new(),
            answered,
        };
        tokio::join!(ask(ticks, turns), async move {
            for _ in 0..3 {
                tick.send(()).await.unwrap();
                assert_eq!(answers.recv().await, Some("well"));
            }
        });
    }
}
