//! The templates and plans that specs can name: those that come with the program, and the operator's.
//! It takes texts; reading directories is its caller's business.

use std::collections::BTreeMap;

use super::suggest::closest;
use super::{
    Plan, PriceTable, Problem, Problems, ResolvedSpec, Source, Spec, Template, TenantId, resolve,
};

/// Templates that come with the program.
const TEMPLATES: [(&str, &str); 4] = [
    (
        "generic.toml",
        include_str!("../../quadlets/templates/generic.toml"),
    ),
    (
        "nanobot.toml",
        include_str!("../../quadlets/templates/nanobot.toml"),
    ),
    (
        "openclaw.toml",
        include_str!("../../quadlets/templates/openclaw.toml"),
    ),
    (
        "spacebot.toml",
        include_str!("../../quadlets/templates/spacebot.toml"),
    ),
];

/// Plans that come with the program.
const PLANS: [(&str, &str); 3] = [
    ("pro.toml", include_str!("../../quadlets/plans/pro.toml")),
    (
        "starter.toml",
        include_str!("../../quadlets/plans/starter.toml"),
    ),
    ("team.toml", include_str!("../../quadlets/plans/team.toml")),
];

/// Every template and plan by name, with the text it was read from.
#[derive(Debug, Clone)]
pub struct Catalog {
    templates: BTreeMap<String, (Template, String)>,
    plans: BTreeMap<String, (Plan, String)>,
    prices: BTreeMap<String, PriceTable>,
}

impl Catalog {
    /// What comes with the program.
    ///
    /// # Panics
    /// Never: a test reads every embedded file.
    pub fn builtin() -> Self {
        let mut catalog = Self {
            templates: BTreeMap::new(),
            plans: BTreeMap::new(),
            prices: BTreeMap::new(),
        };
        for (name, text) in TEMPLATES {
            let added = catalog.add_template(&Source::new(name, text));
            added.expect("embedded templates are read by a test");
        }
        for (name, text) in PLANS {
            let added = catalog.add_plan(&Source::new(name, text));
            added.expect("embedded plans are read by a test");
        }
        catalog
    }

    /// Adds a template, in place of an earlier one of its name.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn add_template(&mut self, source: &Source) -> Result<(), Problems> {
        let template = Template::parse(source)?;
        let entry = (template, source.text.clone());
        self.templates.insert(entry.0.name.clone(), entry);
        Ok(())
    }

    /// Adds a plan, in place of an earlier one of its name.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn add_plan(&mut self, source: &Source) -> Result<(), Problems> {
        let plan = Plan::parse(source)?;
        let entry = (plan, source.text.clone());
        self.plans.insert(entry.0.name.clone(), entry);
        Ok(())
    }

    /// Adds a price table, in place of an earlier one of its name.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn add_prices(&mut self, source: &Source) -> Result<(), Problems> {
        let table = PriceTable::parse(source)?;
        self.prices.insert(table.name.clone(), table);
        Ok(())
    }

    /// Every template, by name.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.templates.values().map(|(template, _)| template)
    }

    /// Every plan, by name.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values().map(|(plan, _)| plan)
    }

    /// The text that a template was read from, comments and all.
    pub fn template_text(&self, name: &str) -> Option<&str> {
        self.templates.get(name).map(|(_, text)| text.as_str())
    }

    /// The text that a plan was read from, comments and all.
    pub fn plan_text(&self, name: &str) -> Option<&str> {
        self.plans.get(name).map(|(_, text)| text.as_str())
    }

    /// Reads several specs, of which no two may describe the same tenant.
    ///
    /// # Errors
    /// Every problem of every spec, each with its place.
    pub fn resolve_all(&self, sources: &[Source]) -> Result<Vec<(Spec, ResolvedSpec)>, Problems> {
        let mut resolved = Vec::new();
        let mut problems = Vec::new();
        let mut read = Vec::new();
        for source in sources {
            match self.resolve(source) {
                Ok((spec, full)) => {
                    read.push((source, spec.clone()));
                    resolved.push((spec, full));
                }
                Err(Problems(found)) => problems.extend(found),
            }
        }
        problems.extend(duplicates(&read));
        if problems.is_empty() {
            Ok(resolved)
        } else {
            Err(Problems(problems))
        }
    }

    /// Reads a spec and resolves it with the template and plan that it names.
    ///
    /// # Errors
    /// Every problem of the spec, each with its place.
    pub fn resolve(&self, source: &Source) -> Result<(Spec, ResolvedSpec), Problems> {
        let spec = Spec::parse(source)?;
        let template = self
            .templates
            .get(&spec.template)
            .ok_or_else(|| unknown("template", &spec.template, self.templates.keys()));
        let plan = self
            .plans
            .get(&spec.plan)
            .ok_or_else(|| unknown("plan", &spec.plan, self.plans.keys()));
        let resolved = match (template, plan) {
            (Ok((template, _)), Ok((plan, _))) => resolve(&spec, template, plan, |table| {
                self.prices.get(table).map(|table| table.models.clone())
            }),
            (template, plan) => Err([template.err(), plan.err()].into_iter().flatten().collect()),
        };
        match resolved {
            Ok(resolved) => Ok((spec, resolved)),
            Err(problems) => Err(source.locate(problems)),
        }
    }
}

/// A tenant that several documents describe would become whichever was read last.
fn duplicates(read: &[(&Source, Spec)]) -> Vec<Problem> {
    let mut first: BTreeMap<&TenantId, &Source> = BTreeMap::new();
    let mut problems = Vec::new();
    for (source, spec) in read {
        if let Some(earlier) = first.get(&spec.id) {
            let problem = Problem::at(
                ["id"],
                format!("`{}` describes tenant `{}` too", earlier.name, spec.id),
            )
            .help("a tenant has one spec; rename one of them or take one away");
            problems.extend(source.locate(vec![problem]).0);
        } else {
            first.insert(&spec.id, source);
        }
    }
    problems
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Problem {
    let list = known
        .clone()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let problem = Problem::at([kind], format!("there is no {kind} `{name}`"));
    match closest(name, known.map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`? There are {list}")),
        None => problem.help(format!("there are {list}")),
    }
}
