//! The certificate by which the operator's root key lets a node write, and whom a reader trusts for it.
//! The text forms are those that `ssh-keygen -Y sign` makes and checks.

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::keys::{KeyError, NODE_NAMESPACE, PublicKey, RootKey};

const STATEMENT_FORMAT: &str = "tenantd-node";
/// Longest certificate line, in bytes.
pub const MAX_STATEMENT: usize = 4096;

impl RootKey {
    /// Certifies that `node` may write in `epoch`.
    ///
    /// # Errors
    /// The encoder's.
    pub fn certify(&self, node: &PublicKey, epoch: u32) -> Result<NodeCertificate, KeyError> {
        let statement = NodeStatement::new(node.clone(), epoch);
        let line = statement.to_line();
        let signature = self.sign_statement(line.as_bytes())?;
        Ok(NodeCertificate {
            line,
            signature,
            statement,
        })
    }
}

/// What a root key says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatement {
    format: String,
    version: u32,
    /// The node's public key.
    pub key: PublicKey,
    /// The epoch in which it may write.
    pub epoch: u32,
}

impl NodeStatement {
    /// What a root key says of `key`. It is stored in clear, and so names no host.
    pub fn new(key: PublicKey, epoch: u32) -> Self {
        Self {
            format: STATEMENT_FORMAT.to_owned(),
            version: FORMAT_VERSION,
            key,
            epoch,
        }
    }

    /// Reads a statement's line, for example `node.json`; nobody needs to have signed it.
    ///
    /// # Errors
    /// It is not one statement of this version.
    pub fn from_line(line: &str) -> Result<Self, KeyError> {
        let statement: Self =
            serde_json::from_str(line).map_err(|error| KeyError::Statement(Some(error)))?;
        if statement.format != STATEMENT_FORMAT || statement.version != FORMAT_VERSION {
            return Err(KeyError::Statement(None));
        }
        Ok(statement)
    }

    /// The exact line, with its LF, that `ssh-keygen -Y sign -n tenantd-node@v1` signs.
    pub fn to_line(&self) -> String {
        // Strings and numbers always have a JSON form.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// A node's statement with a root key's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    line: String,
    signature: String,
    statement: NodeStatement,
}

impl NodeCertificate {
    /// Joins a statement's line and its signature, for example made by `ssh-keygen`.
    ///
    /// This reads and does not verify; [`Trust::certified`] does.
    ///
    /// # Errors
    /// The line is not one statement of this version.
    pub fn new(line: &str, signature: &str) -> Result<Self, KeyError> {
        let one_line = line.len() <= MAX_STATEMENT
            && line.ends_with('\n')
            && !line[..line.len() - 1].contains('\n');
        if !one_line {
            return Err(KeyError::Statement(None));
        }
        let statement = NodeStatement::from_line(line)?;
        let (line, signature) = (line.to_owned(), format!("{}\n", signature.trim()));
        Ok(Self {
            line,
            signature,
            statement,
        })
    }

    /// Reads `node.json` followed by `node.json.sig`, which is also [`Self::to_text`]'s form.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let end = text.find('\n').ok_or(KeyError::Statement(None))? + 1;
        Self::new(&text[..end], &text[end..])
    }

    /// The statement's line, then the signature's armour.
    pub fn to_text(&self) -> String {
        format!("{}{}", self.line, self.signature)
    }

    /// What the root key says.
    pub fn statement(&self) -> &NodeStatement {
        &self.statement
    }
}

/// Whose commits a reader accepts.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Root keys; a commit is accepted when one of them certified its node.
    pub roots: Vec<PublicKey>,
    /// Node keys that are accepted without a root key's word, in any epoch.
    pub nodes: Vec<PublicKey>,
}

impl Trust {
    /// Trusts one root key.
    pub fn root(key: PublicKey) -> Self {
        Self {
            roots: vec![key],
            nodes: Vec::new(),
        }
    }

    /// The node's statement, if a trusted root key signed it or the node itself is trusted.
    ///
    /// # Errors
    /// Neither is the case.
    pub fn certified<'a>(
        &self,
        certificate: &'a NodeCertificate,
    ) -> Result<&'a NodeStatement, KeyError> {
        let statement = &certificate.statement;
        let signed = |root: &PublicKey| {
            root.verify(
                NODE_NAMESPACE,
                certificate.line.as_bytes(),
                &certificate.signature,
            )
            .is_ok()
        };
        if self.nodes.contains(&statement.key) || self.roots.iter().any(signed) {
            return Ok(statement);
        }
        Err(KeyError::Untrusted {
            node: statement.key.fingerprint(),
            epoch: statement.epoch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::keys::NodeKey;

    fn root() -> RootKey {
        RootKey::from_seed(&[1; 32]).unwrap()
    }

    #[test]
    fn a_certificate_is_trusted_through_its_root_only() {
        let node = NodeKey::from_seed(&[2; 32]).unwrap().public();
        let made = root().certify(&node, 3).unwrap();
        let certificate = NodeCertificate::from_text(&made.to_text()).unwrap();
        let statement = Trust::root(root().public())
            .certified(&certificate)
            .unwrap()
            .clone();
        assert_eq!((statement.epoch, &statement.key), (3, &node));

        let other = RootKey::from_seed(&[9; 32]).unwrap().public();
        assert!(Trust::root(other).certified(&certificate).is_err());
        assert!(Trust::default().certified(&certificate).is_err());
        let pinned = Trust {
            nodes: vec![node],
            ..Trust::default()
        };
        assert!(pinned.certified(&certificate).is_ok());
    }

    #[test]
    fn a_changed_statement_loses_its_signature() {
        let node = NodeKey::from_seed(&[2; 32]).unwrap().public();
        let text = root().certify(&node, 3).unwrap().to_text();
        let raised = NodeCertificate::from_text(&text.replace("\"epoch\":3", "\"epoch\":4"));
        assert!(
            Trust::root(root().public())
                .certified(&raised.unwrap())
                .is_err()
        );
    }
}
