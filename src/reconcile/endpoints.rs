//! Whether the door of a tenant's endpoints runs by the settings that are installed, and what its endpoints have used.
//! The door itself counts and refuses; nothing here decides.

use camino::Utf8Path;
use jiff::Timestamp;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use crate::api::{SpendingLimits, SpendingLine, SpendingReport};
use crate::gateway::egress::Month;
use crate::gateway::endpoints::{Book, Figures, date, exhausted};
use crate::host::systemd::ActiveState;
use crate::host::{clock, files};
use crate::layout::{Layout, UnitNames};
use crate::state::StoredRevision;
use crate::tenant::{Spending, TenantId};

/// Whether a revision has endpoints.
pub fn has_any(stored: &StoredRevision) -> bool {
    !stored.revision.resolved.endpoints.endpoints.is_empty()
}

/// Whether a door runs that was started before its settings were last written, or that has none any more.
pub async fn is_outdated(
    engine: &Engine,
    tenant: &TenantId,
    stored: Option<&StoredRevision>,
) -> Result<bool, OperationError> {
    let names = UnitNames(tenant);
    let (socket, service) = (
        names.instance("endpoints", "socket"),
        names.instance("endpoints", "service"),
    );
    let units = engine
        .systemd
        .units(&[socket.as_str(), service.as_str()])
        .await?;
    let mut active = units
        .iter()
        .filter(|unit| unit.active != ActiveState::Inactive);
    if !stored.is_some_and(has_any) {
        return Ok(active.next().is_some());
    }
    if !active.any(|unit| unit.name == service) {
        return Ok(false);
    }
    let path = engine.layout.endpoints_drop_in(tenant);
    let Some(written) = blocking(move || files::modified(&path)).await else {
        return Ok(false);
    };
    let door = engine.systemd.general(&service).await?;
    Ok(door.active_since.is_some_and(|since| since < written))
}

impl Engine {
    /// What the endpoints of all tenants have used in a month, or those of one; the present month when none is named.
    pub async fn spending(
        &self,
        only: Option<&TenantId>,
        month: Option<Month>,
    ) -> Result<Vec<SpendingReport>, OperationError> {
        let rows = match only {
            Some(tenant) => vec![self.database.tenant(tenant.clone()).await?],
            None => self.database.tenants().await?,
        };
        let mut asked = Vec::new();
        for row in rows {
            let stored = self.stored(&row).await?;
            let endpoints = stored.map(|stored| stored.revision.resolved.endpoints);
            asked.push((row.id, endpoints.unwrap_or_default().spending));
        }
        let layout = self.layout.clone();
        Ok(blocking(move || {
            let now = clock::now();
            let month = month.unwrap_or(Month::of(now));
            let report = |(tenant, spending)| report(&layout, &tenant, &spending, month, now);
            asked.into_iter().map(report).collect()
        })
        .await)
    }
}

fn report(
    layout: &Layout,
    tenant: &TenantId,
    spending: &Spending,
    month: Month,
    now: Timestamp,
) -> SpendingReport {
    let directory = layout.endpoints_dir(tenant);
    let mut unreadable = None;
    let mut book = |month: Month| {
        let read = read_book(&directory, month);
        read.unwrap_or_else(|error| {
            unreadable = Some(error);
            Book::default()
        })
    };
    let present = book(Month::of(now));
    let asked = if month == Month::of(now) {
        present.clone()
    } else {
        book(month)
    };
    let limits = (*spending != Spending::default()).then(|| standing(spending, &present, now));
    let lines = asked.by_model().into_iter().flat_map(|(endpoint, models)| {
        let line = move |(model, figures): (String, Figures)| SpendingLine {
            endpoint: endpoint.clone(),
            model,
            requests: figures.requests,
            broken: figures.broken,
            estimated: figures.estimated,
            input_tokens: figures.tokens.input,
            output_tokens: figures.tokens.output,
            cache_read_tokens: figures.tokens.cache_read,
            cache_write_tokens: figures.tokens.cache_write,
            money: figures.money.to_string(),
            sent_bytes: figures.sent,
            received_bytes: figures.received,
        };
        models.into_iter().map(line)
    });
    SpendingReport {
        tenant: tenant.to_string(),
        month: month.to_string(),
        lines: lines.collect(),
        limits,
        unreadable,
    }
}

/// How the figures of now stand to the limits.
fn standing(spending: &Spending, book: &Book, now: Timestamp) -> SpendingLimits {
    let period = spending.period.unwrap_or_default();
    let total = book.total(period, date(now));
    SpendingLimits {
        period: period.to_string(),
        tokens: total.tokens.total(),
        tokens_limit: spending.tokens,
        money: total.money.to_string(),
        money_limit: spending.money.map(|money| money.to_string()),
        paused: exhausted(spending, total, now).is_some(),
    }
}

/// The figures of a month, as the door has written them; none where it has not.
fn read_book(directory: &Utf8Path, month: Month) -> Result<Book, String> {
    let path = directory.join(format!("{month}.json"));
    match files::read(&path, Book::LIMIT) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| format!("{path} is broken: {error}"))
        }
        Err(error) if error.is_absent() => Ok(Book::default()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dirs;
    use crate::tenant::Tokens;

    fn reported(text: Option<&str>, spending: &str) -> SpendingReport {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(guard.path()).unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        let directory = layout.endpoints_dir(&tenant);
        if let Some(text) = text {
            dirs::make(&directory, 0o700).unwrap();
            files::write(&directory.join("2026-11.json"), text.as_bytes(), 0o600).unwrap();
        }
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let spending = toml::from_str(spending).unwrap();
        report(&layout, &tenant, &spending, "2026-11".parse().unwrap(), now)
    }

    #[test]
    fn days_are_summed_by_model_and_todays_count_against_a_limit_of_days() {
        let mut book = Book::default();
        let figures = Figures {
            requests: 1,
            tokens: Tokens {
                input: 60,
                ..Tokens::default()
            },
            money: "0.5".parse().unwrap(),
            ..Figures::default()
        };
        for day in ["2026-11-21", "2026-11-22"] {
            book.add(day.parse().unwrap(), "a", "m", figures);
        }
        let text = serde_json::to_string(&book).unwrap();
        let report = reported(Some(&text), "tokens = 100\nperiod = \"day\"");
        assert_eq!(report.lines.len(), 1);
        assert_eq!(
            (report.lines[0].input_tokens, report.lines[0].money.as_str()),
            (120, "1.00")
        );
        let limits = report.limits.unwrap();
        assert_eq!((limits.tokens, limits.paused), (60, false));
        let limits = reported(Some(&text), "money = \"1\"").limits.unwrap();
        assert_eq!((limits.money.as_str(), limits.paused), ("1.00", true));
    }

    #[test]
    fn one_that_has_used_nothing_has_no_lines_and_a_broken_book_is_told() {
        assert_eq!(reported(None, "").lines, []);
        let report = reported(Some("{"), "");
        assert!(
            report
                .unreadable
                .unwrap()
                .contains("2026-11.json is broken")
        );
    }
}
