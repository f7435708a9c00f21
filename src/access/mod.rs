//! Who may do what over the API: tokens, their scopes, and the table that says which scope each route asks for.
//! It decides by values alone; where tokens are kept is `state`'s, and where requests come in is `api`'s business.

mod owner;
mod rates;
mod rules;
mod scope;
mod token;

pub use owner::{refused_in_rollback, refused_in_spec};
pub use rates::{Rates, TooMany, network};
#[cfg(test)]
pub use rules::RULES;
pub use rules::{Decision, OwnBy, decide};
pub use scope::{Scope, ScopeError};
pub use token::{NewToken, TokenHash, TokenId, TokenIdError, TokenName, TokenNameError};
