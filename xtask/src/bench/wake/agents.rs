//! The agents whose sleep is measured, and their specs.

use crate::machine::images::{fake_agent, nanobot, openclaw};

/// Real agents that are measured together.
const CLAWS: usize = 4;

/// An agent, and how it is asked for something that is no probe.
pub struct Agent {
    /// Its name, which its tenants' begin with.
    pub name: &'static str,
    /// How many are measured together.
    pub tenants: usize,
    /// Where it listens.
    pub port: u16,
    /// What it is asked for.
    pub path: &'static str,
    /// What is answered once it has started.
    pub probe: &'static str,
}

/// The agents that are measured, the trivial one first.
pub const AGENTS: [Agent; 3] = [
    Agent {
        name: "fake",
        tenants: 1,
        port: 8080,
        path: "/starts",
        probe: "/healthz",
    },
    Agent {
        name: "nanobot",
        tenants: 1,
        port: 18790,
        path: "/",
        probe: "/health",
    },
    Agent {
        name: "openclaw",
        tenants: CLAWS,
        port: 18789,
        path: "/",
        probe: "/startupz",
    },
];

impl Agent {
    /// One of its tenants, from 1 on.
    pub fn tenant(&self, number: usize) -> String {
        format!("{}{number}", self.name)
    }

    /// All of them.
    pub fn tenants(&self) -> Vec<String> {
        (1..=self.tenants)
            .map(|number| self.tenant(number))
            .collect()
    }

    /// A spec of it; `more` are lines before all tables.
    pub fn spec(&self, number: usize, more: &str) -> String {
        let id = self.tenant(number);
        let rest = if self.name == "fake" {
            format!(
                "image = \"{}\"\ningress.port = 8080\nprobes.start.path = \"/healthz\"\nstate.data.path = \"/state\"\n",
                fake_agent::reference()
            )
        } else {
            let image = if self.name == "nanobot" {
                nanobot::reference()
            } else {
                openclaw::reference()
            };
            format!("template = \"{}\"\nimage = \"{image}\"\n", self.name)
        };
        format!("id = \"{id}\"\nplan = \"team\"\nwake = \"on-demand\"\n{rest}{more}")
    }
}
