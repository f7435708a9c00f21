//! What the API shows of tenants' ways out: their policies, what doors counted, and what would happen to a connection.
//! Doors judge and count for themselves; nothing here changes anything.

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use crate::api::{EgressAddress, EgressFigures, EgressReport, EgressVerdict};
use crate::gateway::egress::{Figures, Goal, Host, Judge, Month, Usage, verdict};
use crate::host::addresses;
use crate::host::files::FileError;
use crate::layout::Layout;
use crate::tenant::{ResolvedSpec, TenantId};

impl Engine {
    /// What the doors of all tenants counted in a month, or that of one.
    pub async fn egress_reports(
        &self,
        only: Option<&TenantId>,
        month: Month,
    ) -> Result<Vec<EgressReport>, OperationError> {
        let rows = match only {
            Some(tenant) => vec![self.database.tenant(tenant.clone()).await?],
            None => self.database.tenants().await?,
        };
        let mut reports = Vec::new();
        for row in rows {
            let stored = self.stored(&row).await?;
            let spec = stored.map(|stored| stored.revision.resolved);
            let layout = self.layout.clone();
            let look = move || report(&layout, &row.id, spec.as_ref(), month);
            reports.push(blocking(look).await);
        }
        Ok(reports)
    }

    /// What would happen to a connection of a tenant to `goal`.
    pub async fn egress_verdict(
        &self,
        tenant: &TenantId,
        goal: &Goal,
    ) -> Result<EgressVerdict, OperationError> {
        let row = self.database.tenant(tenant.clone()).await?;
        let stored = self.stored(&row).await?;
        let stored = stored.ok_or_else(|| OperationError::NoRevision(tenant.clone()))?;
        let policy = stored.revision.resolved.egress;
        let mode = policy.mode;
        let own = addresses::own().map_err(|source| FileError::Io {
            verb: "list the addresses of",
            path: "this host".into(),
            source,
        })?;
        let verdict = verdict(&Judge::new(policy, own), &Host::default(), goal).await;
        let because = match (&verdict.refusal, &verdict.lookup_error, &verdict.listed) {
            (Some(refusal), ..) => refusal.to_string(),
            (None, Some(error), _) => format!("the name cannot be looked up: {error}"),
            (None, None, Some(entry)) => format!("the list names it: {entry}"),
            (None, None, None) => format!("the mode is `{mode}`"),
        };
        Ok(EgressVerdict {
            destination: goal.to_string(),
            mode: mode.to_string(),
            allowed: verdict.refusal.is_none() && verdict.lookup_error.is_none(),
            code: verdict.refusal.map(|refusal| refusal.code().to_owned()),
            because,
            addresses: verdict
                .addresses
                .into_iter()
                .map(|(address, refusal)| EgressAddress {
                    address: address.to_string(),
                    refused: refusal.map(|refusal| refusal.to_string()),
                })
                .collect(),
        })
    }
}

fn report(
    layout: &Layout,
    tenant: &TenantId,
    spec: Option<&ResolvedSpec>,
    month: Month,
) -> EgressReport {
    // One tenant's broken file must not hide the figures of all others.
    let usage = Usage::read(&layout.egress_state_dir(tenant), month).unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, %tenant, %month, "reports no figures, because they do not read");
        Usage::nothing(month)
    });
    let policy = spec.map(|spec| spec.egress.clone()).unwrap_or_default();
    EgressReport {
        tenant: tenant.to_string(),
        month: month.to_string(),
        mode: policy.mode.to_string(),
        allow: policy.allow.iter().map(ToString::to_string).collect(),
        ports: policy.ports.clone(),
        private_networks: policy
            .private_networks
            .iter()
            .map(ToString::to_string)
            .collect(),
        volume: spec.map(|spec| spec.limits.egress.bytes()),
        total: figures(usage.total()),
        destinations: usage
            .destinations
            .into_iter()
            .map(|(name, counted)| (name, figures(counted)))
            .collect(),
    }
}

fn figures(figures: Figures) -> EgressFigures {
    EgressFigures {
        sent: figures.sent,
        received: figures.received,
        connections: figures.connections,
        refused: figures.refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_whose_figures_do_not_read_is_reported_with_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = camino::Utf8Path::from_path(dir.path()).unwrap();
        let layout = Layout::rooted(root);
        let tenant = "foo-bar".parse().unwrap();
        let state = layout.egress_state_dir(&tenant);
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("usage-2026-11.json"), "{").unwrap();
        let report = report(&layout, &tenant, None, "2026-11".parse().unwrap());
        assert_eq!((report.total.sent, report.destinations.len()), (0, 0));
        assert_eq!(report.tenant, "foo-bar");
    }
}
