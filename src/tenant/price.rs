//! What providers ask for tokens, as data: the operator's `prices.d/*.toml`.
//! It computes costs of known counts; who counts, and what is done at a limit, others decide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::source::Source;
use super::{Money, Problem, Problems};

/// Most models of one table.
const MAX_MODELS: usize = 256;

/// For how many tokens a price is, as providers write them.
const PER: u128 = 1_000_000;

/// A price table: the models of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "tenantd price table")]
pub struct PriceTable {
    /// The name by which endpoints ask for it; an endpoint of the same name need not.
    pub name: String,
    /// The models. The first whose name fits is taken.
    pub models: Vec<ModelPrice>,
}

/// The price of a model's tokens, each for a million of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelPrice {
    /// The model's name as answers say it; a `*` at the end stands for any ending.
    pub model: String,
    /// Tokens of requests.
    pub input: Money,
    /// Tokens of answers.
    pub output: Money,
    /// Tokens of requests that the provider had in its cache; `input` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Money>,
    /// Tokens of requests that it put into its cache; `input` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Money>,
}

/// Tokens that one or many requests have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tokens {
    /// Of requests, without those of the cache.
    pub input: u64,
    /// Of answers.
    pub output: u64,
    /// Of requests, from the provider's cache.
    pub cache_read: u64,
    /// Of requests, into the provider's cache.
    pub cache_write: u64,
}

impl Tokens {
    /// All together.
    pub const fn total(self) -> u64 {
        self.input
            .saturating_add(self.output)
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }

    /// The sums.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }
}

impl ModelPrice {
    /// Whether this is the price of `model`.
    pub fn fits(&self, model: &str) -> bool {
        match self.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.model,
        }
    }

    /// What the tokens cost, rounded up to a whole millionth.
    pub fn cost(&self, tokens: Tokens) -> Money {
        let parts = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.cache_read, self.cache_read.unwrap_or(self.input)),
            (tokens.cache_write, self.cache_write.unwrap_or(self.input)),
        ];
        // Four products of two 64-bit numbers fit, with room, but for amounts beyond any currency.
        let sum = parts.iter().fold(0_u128, |sum, (count, price)| {
            let product = u128::from(*count) * u128::from(price.millionths());
            sum.saturating_add(product)
        });
        Money::from_millionths(u64::try_from(sum.div_ceil(PER)).unwrap_or(u64::MAX))
    }
}

/// What the tokens of a model cost by `prices`; none where there are no prices.
///
/// A model that no entry names costs as much as the dearest that one does: a limit must not be passed by a name.
pub fn cost(prices: &[ModelPrice], model: &str, tokens: Tokens) -> Option<Money> {
    let named = prices.iter().find(|price| price.fits(model));
    named.map_or_else(
        || prices.iter().map(|price| price.cost(tokens)).max(),
        |price| Some(price.cost(tokens)),
    )
}

impl PriceTable {
    /// Reads a price table.
    ///
    /// # Errors
    /// Every problem of the text, each with its line and column.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        source.parse(|table: &Self| {
            let mut findings = check::name(&table.name);
            if table.models.is_empty() || table.models.len() > MAX_MODELS {
                let message = format!("a price table has 1 to {MAX_MODELS} models");
                findings.push(Problem::at(["models"], message));
            }
            for (index, price) in table.models.iter().enumerate() {
                let plain = price.model.strip_suffix('*').unwrap_or(&price.model);
                if plain.len() > 128
                    || plain.contains('*')
                    || !plain.bytes().all(|b| b.is_ascii_graphic())
                {
                    findings.push(Problem::at(
                        ["models", &index.to_string(), "model"],
                        format!(
                            "{:?} is no model's name, which may end with `*`",
                            price.model
                        ),
                    ));
                }
            }
            findings
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const TABLE: &str = "name = \"acme\"\n\
        [[models]]\nmodel = \"large-4*\"\ninput = \"3\"\noutput = \"15\"\ncache-read = \"0.30\"\ncache-write = \"3.75\"\n\
        [[models]]\nmodel = \"small\"\ninput = \"0.25\"\noutput = \"1.25\"\n";

    fn table() -> Vec<ModelPrice> {
        PriceTable::parse(&Source::new("acme.toml", TABLE))
            .unwrap()
            .models
    }

    #[rstest]
    #[case("large-4-20260101", Tokens { input: 1_000_000, ..Tokens::default() }, "3.00")]
    #[case("large-4", Tokens { output: 1_000_000, ..Tokens::default() }, "15.00")]
    #[case("large-4", Tokens { cache_read: 2_000_000, cache_write: 1_000_000, ..Tokens::default() }, "4.35")]
    #[case("small", Tokens { input: 1, output: 1, ..Tokens::default() }, "0.000002")]
    #[case("small", Tokens { cache_read: 1_000_000, ..Tokens::default() }, "0.25")]
    #[case::an_unknown_one_costs_most("new", Tokens { input: 1_000_000, ..Tokens::default() }, "3.00")]
    fn costs(#[case] model: &str, #[case] tokens: Tokens, #[case] expected: &str) {
        assert_eq!(cost(&table(), model, tokens).unwrap().to_string(), expected);
    }

    #[test]
    fn without_prices_there_is_no_cost() {
        assert_eq!(cost(&[], "small", Tokens::default()), None);
    }

    proptest! {
        #[test]
        fn an_unknown_name_is_never_cheaper(
            input in 0..1_u64 << 40, output in 0..1_u64 << 40, cache_read in 0..1_u64 << 40,
        ) {
            let tokens = Tokens { input, output, cache_read, cache_write: 0 };
            let unknown = cost(&table(), "unknown", tokens);
            for known in ["large-4", "small"] {
                prop_assert!(unknown >= cost(&table(), known, tokens));
            }
        }
    }
}
