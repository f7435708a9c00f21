//! What a starting agent answered to its start probe, left by the unit that asked for whoever looks into a failed start.
//! A file per tenant below `/run`, of the last start only.

use std::num::NonZeroU32;

use jiff::Timestamp;

use crate::api::ProbeAttempt;
use crate::host::files::{self, FileError};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Most answers that are told; an agent that gives another one each time loses its first ones.
const MOST: usize = 50;

/// Longest file.
const LIMIT: u64 = 256 * 1024;

/// Longest answer that is told.
const ANSWER: usize = 1000;

/// The answers of one start. The same answer many times over is told once, with its number.
#[derive(Debug, Default)]
pub struct Answers {
    told: Vec<(Timestamp, String, NonZeroU32)>,
}

impl Answers {
    /// Adds an answer.
    pub fn note(&mut self, at: Timestamp, answer: &str) {
        let answer: String = answer.chars().take(ANSWER).collect();
        match self.told.last_mut() {
            Some((_, last, times)) if *last == answer => *times = times.saturating_add(1),
            _ => {
                if self.told.len() == MOST {
                    self.told.remove(0);
                }
                self.told.push((at, answer, NonZeroU32::MIN));
            }
        }
    }

    fn attempts(&self) -> Vec<ProbeAttempt> {
        let told = self.told.iter().map(|(at, answer, times)| ProbeAttempt {
            at: *at,
            answer: match times.get() {
                1 => answer.clone(),
                times => format!("{answer} ({times} times)"),
            },
        });
        told.collect()
    }

    /// Leaves the answers of a start that failed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn leave(&self, layout: &Layout, tenant: &TenantId) -> Result<(), FileError> {
        let path = layout.start_answers_file(tenant);
        if let Some(parent) = path.parent() {
            dirs::make(parent, 0o700)?;
        }
        // Times and texts always have a JSON form.
        let text = serde_json::to_vec(&self.attempts()).unwrap_or_default();
        files::write(&path, &text, 0o600)
    }
}

/// Adds an answer that was given just now.
pub fn note_now(answers: &mut Answers, answer: &str) {
    answers.note(clock::now(), answer);
}

/// What the last start that failed has left, as far as it is not from before `since`.
pub fn left(layout: &Layout, tenant: &TenantId, since: Timestamp) -> Vec<ProbeAttempt> {
    let bytes = files::read(&layout.start_answers_file(tenant), LIMIT).unwrap_or_default();
    let told: Vec<ProbeAttempt> = serde_json::from_slice(&bytes).unwrap_or_default();
    told.into_iter()
        .filter(|attempt| attempt.at >= since)
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn what_an_agent_answered_is_told_in_order_and_its_repetitions_counted() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(camino::Utf8Path::from_path(guard.path()).unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        let begin: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut answers = Answers::default();
        for second in 0..40 {
            let answer = if second < 30 { "refused" } else { "503" };
            answers.note(begin + SignedDuration::from_secs(second), answer);
        }
        answers.leave(&layout, &tenant).unwrap();
        let all = left(&layout, &tenant, begin);
        let told: Vec<_> = all.iter().map(|attempt| attempt.answer.as_str()).collect();
        assert_eq!(told, ["refused (30 times)", "503 (10 times)"]);
        let later = begin + SignedDuration::from_secs(30);
        assert_eq!(
            left(&layout, &tenant, later).len(),
            1,
            "of an earlier start"
        );
    }

    #[test]
    fn their_number_is_bounded() {
        let mut answers = Answers::default();
        for second in 0..200 {
            let at = Timestamp::from_second(second).unwrap();
            answers.note(at, &format!("{second}"));
        }
        let told = answers.attempts();
        assert_eq!((told.len(), told[0].answer.as_str()), (MOST, "150"));
    }
}
