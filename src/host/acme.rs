//! An ACME server (RFC 8555), as far as DNS-01 goes: an account, an order, the records that it wants to see, the
//! certificate. When one is wanted, and who makes the records, is decided elsewhere.

use std::time::Duration;

use camino::Utf8PathBuf;
use instant_acme::{
    AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use secrecy::{ExposeSecret, SecretString};

use crate::front::Challenge;

/// How long the server may take to look at the records, and to issue the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_mins(3));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The file with its authorities cannot be used, or the host knows none.
    #[error(
        "the authorities that the ACME server is checked against cannot be read; see `acme-root` under [front]"
    )]
    Roots(#[source] instant_acme::Error),
    /// It gives no account.
    #[error(
        "the ACME server {directory} gives no account; see that this host reaches it, and `acme-directory` and `email` under [front]"
    )]
    Account {
        /// Its directory URL.
        directory: String,
        /// The cause.
        #[source]
        source: instant_acme::Error,
    },
    /// It takes no order.
    #[error("the ACME server takes no order for {names}")]
    Order {
        /// What was ordered.
        names: String,
        /// The cause.
        #[source]
        source: instant_acme::Error,
    },
    /// It breaks an exchange off.
    #[error("the ACME server broke off while {step}; it is tried again")]
    Step {
        /// What was being done.
        step: &'static str,
        /// The cause.
        #[source]
        source: instant_acme::Error,
    },
    /// It does not offer DNS-01.
    #[error(
        "the ACME server offers no DNS-01 challenge for {0}; choose another by `acme-directory` under [front]"
    )]
    NoChallenge(String),
    /// It looked for the records and is not content.
    #[error(
        "the ACME server does not see the record of {domain}: {detail}; see what the hook does, and whether `wait` under [front.wildcard] is long enough"
    )]
    NotProven {
        /// The domain.
        domain: String,
        /// What it said.
        detail: String,
    },
}

/// Where the server is, and how it is known.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its directory URL.
    pub directory: String,
    /// A PEM file with the authority of its own certificate, where the host's do not know it.
    pub root: Option<Utf8PathBuf>,
}

/// An account.
pub struct Account(instant_acme::Account);

/// What the server has issued, in PEM.
pub struct Issued {
    /// The certificate, and those that lead to a root.
    pub chain: String,
    /// The certificate's private key.
    pub key: SecretString,
}

impl Account {
    /// The account that `credentials` (as [`Account::create`] gave them) are for; none when they are for another
    /// server or are none at all.
    pub async fn load(server: &Server, credentials: &[u8]) -> Result<Option<Self>, AcmeError> {
        let is_of_it = |value: &serde_json::Value| value["directory"] == server.directory;
        let Some(credentials) = serde_json::from_slice(credentials)
            .ok()
            .filter(is_of_it)
            .and_then(|value| serde_json::from_value(value).ok())
        else {
            return Ok(None);
        };
        let account = server.builder()?.from_credentials(credentials).await;
        Ok(Some(Self(account.map_err(server.no_account())?)))
    }

    /// Makes an account, whose terms the operator has agreed to by naming the server; with what it is found again by.
    pub async fn create(
        server: &Server,
        email: Option<&str>,
    ) -> Result<(Self, SecretString), AcmeError> {
        let contact = email.map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = server.directory.clone();
        let created = server.builder()?.create(&new, directory, None).await;
        let (account, credentials) = created.map_err(server.no_account())?;
        let credentials = serde_json::to_string(&credentials)
            .map_err(instant_acme::Error::from)
            .map_err(server.no_account())?;
        Ok((Self(account), credentials.into()))
    }

    /// Orders one certificate for all `names`.
    pub async fn order(&self, names: &[String]) -> Result<Order, AcmeError> {
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let order = self.0.new_order(&NewOrder::new(&identifiers)).await;
        order.map(Order).map_err(|source| AcmeError::Order {
            names: names.join(" and "),
            source,
        })
    }
}

impl Server {
    fn builder(&self) -> Result<instant_acme::AccountBuilder, AcmeError> {
        match &self.root {
            Some(path) => instant_acme::Account::builder_with_root(path),
            None => instant_acme::Account::builder(),
        }
        .map_err(AcmeError::Roots)
    }

    fn no_account(&self) -> impl Fn(instant_acme::Error) -> AcmeError {
        let directory = self.directory.clone();
        move |source| AcmeError::Account {
            directory: directory.clone(),
            source,
        }
    }
}

/// An order that is not yet a certificate.
pub struct Order(instant_acme::Order);

impl Order {
    /// The records that the server wants to see; none for what it has seen lately.
    pub async fn challenges(&mut self) -> Result<Vec<Challenge>, AcmeError> {
        let mut challenges = Vec::new();
        let mut authorizations = self.0.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(broken("it told its challenges"))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            // Without the `*.` that the order may have had (RFC 8555, section 7.1.4).
            let domain = match authorization.identifier().identifier {
                Identifier::Dns(domain) => domain.clone(),
                other => format!("{other:?}"),
            };
            let Some(challenge) = authorization.challenge(ChallengeType::Dns01) else {
                return Err(AcmeError::NoChallenge(domain));
            };
            let value = challenge.key_authorization().dns_value();
            challenges.push(Challenge { domain, value });
        }
        Ok(challenges)
    }

    /// Has the server look for the records, and waits until it has issued the certificate.
    pub async fn finish(mut self) -> Result<Issued, AcmeError> {
        self.have_it_look().await?;
        let status = self.0.poll_ready(&PATIENCE).await;
        if status.map_err(broken("it looked for the records"))? != OrderStatus::Ready {
            return Err(self.why_not().await);
        }
        let key = self.0.finalize().await;
        let key = key.map_err(broken("it was given the certificate's key"))?;
        let chain = self.0.poll_certificate(&PATIENCE).await;
        Ok(Issued {
            chain: chain.map_err(broken("it issued the certificate"))?,
            key: key.into(),
        })
    }

    async fn have_it_look(&mut self) -> Result<(), AcmeError> {
        let step = "it was told of the records";
        let mut authorizations = self.0.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(broken(step))?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(ChallengeType::Dns01)
            {
                challenge.set_ready().await.map_err(broken(step))?;
            }
        }
        Ok(())
    }

    /// What the server found of the records, as far as it tells.
    async fn why_not(&mut self) -> AcmeError {
        let mut authorizations = self.0.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else {
                continue;
            };
            let error = state.challenges.iter().find_map(|one| one.error.as_ref());
            if let Some(error) = error {
                let detail = error.to_string();
                let Identifier::Dns(domain) = state.identifier().identifier.clone() else {
                    continue;
                };
                return AcmeError::NotProven { domain, detail };
            }
        }
        AcmeError::NotProven {
            domain: "the order".to_owned(),
            detail: "it does not tell why".to_owned(),
        }
    }
}

fn broken(step: &'static str) -> impl Fn(instant_acme::Error) -> AcmeError {
    move |source| AcmeError::Step { step, source }
}

impl Issued {
    /// The chain and the key in one text, as a file has them that is whole or absent.
    pub fn bundle(&self) -> SecretString {
        let chain = self.chain.trim_end();
        format!("{chain}\n{}", self.key.expose_secret()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_of_another_server_are_no_account() {
        let server = Server {
            directory: "https://127.0.0.1:1/directory".to_owned(),
            root: None,
        };
        for stored in [
            "",
            "null",
            "{}",
            r#"{"id":"https://other.test/1","key_pkcs8":"AAAA","directory":"https://other.test/directory"}"#,
        ] {
            let account = Account::load(&server, stored.as_bytes()).await.unwrap();
            assert!(account.is_none(), "{stored}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named_with_what_to_do() {
        let server = Server {
            directory: "https://127.0.0.1:1/directory".to_owned(),
            root: None,
        };
        let error = Account::create(&server, None).await.err().unwrap();
        assert!(
            error
                .to_string()
                .contains("https://127.0.0.1:1/directory gives no account"),
            "{error}"
        );
    }
}
