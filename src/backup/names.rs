//! The names of a repository's objects, built and parsed in one place.

use super::id::{BucketPrefix, Digest};

/// Makes the names of one repository's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectNames(pub BucketPrefix);

impl ObjectNames {
    /// What this repository is.
    pub fn repository(&self) -> String {
        format!("{}/repository.json", self.0)
    }

    /// The identity and chunk-id key, wrapped.
    pub fn keys(&self, digest: &Digest) -> String {
        format!("{}{digest}.age", self.keys_prefix())
    }

    /// All wrapped keys.
    pub fn keys_prefix(&self) -> String {
        format!("{}/keys/", self.0)
    }

    /// A pack.
    pub fn pack(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.packs_prefix())
    }

    /// All packs.
    pub fn packs_prefix(&self) -> String {
        format!("{}/packs/", self.0)
    }

    /// A part of a tree.
    pub fn tree(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.trees_prefix())
    }

    /// All parts of trees.
    pub fn trees_prefix(&self) -> String {
        format!("{}/trees/", self.0)
    }

    /// A list of packs.
    pub fn list(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.lists_prefix())
    }

    /// All lists of packs.
    pub fn lists_prefix(&self) -> String {
        format!("{}/lists/", self.0)
    }

    /// What a collector notes down.
    pub fn marks_prefix(&self) -> String {
        format!("{}/marks/", self.0)
    }

    /// A file for whoever restores without tenantd.
    pub fn without_us(&self, file: &str) -> String {
        format!("{}/{file}", self.0)
    }

    /// Everything of the repository.
    pub fn all(&self) -> String {
        format!("{}/", self.0)
    }

    /// A commit.
    pub fn commit(&self, name: &CommitName) -> String {
        format!("{}{name}", self.commits_prefix())
    }

    /// A heartbeat of the node whose repository this is.
    pub fn heartbeat(&self, name: &HeartbeatName) -> String {
        format!("{}{name}", self.heartbeats_prefix())
    }

    /// All heartbeats.
    pub fn heartbeats_prefix(&self) -> String {
        format!("{}/heartbeats/", self.0)
    }

    /// All commits.
    pub fn commits_prefix(&self) -> String {
        format!("{}/commits/", self.0)
    }
}

/// `<epoch>-<sequence>-<digest>`: where a commit stands, and the digest of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitName {
    /// The writer's epoch.
    pub epoch: u32,
    /// The place in the chain, from 1.
    pub sequence: u32,
    /// The digest of the whole object.
    pub digest: Digest,
}

impl std::fmt::Display for CommitName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:010}-{:010}-{}",
            self.epoch, self.sequence, self.digest
        )
    }
}

impl CommitName {
    /// Parses the last component of a commit's name; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = || parts.next()?.parse::<u32>().ok();
        let (epoch, sequence) = (number()?, number()?);
        let digest = parts.next()?.parse().ok()?;
        let name = Self {
            epoch,
            sequence,
            digest,
        };
        (parts.next().is_none() && name.to_string() == text).then_some(name)
    }
}

/// Heartbeats are named in the same way, each writer counting its own.
pub type HeartbeatName = CommitName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_name_is_read_back_and_sorts_by_age() {
        let name = |epoch, sequence| CommitName {
            epoch,
            sequence,
            digest: Digest::of(b"x"),
        };
        assert_eq!(
            CommitName::parse(&name(1, 42).to_string()),
            Some(name(1, 42))
        );
        assert!(name(1, 9).to_string() < name(1, 10).to_string());
        assert!(name(1, 999).to_string() < name(2, 1).to_string());
        for bad in [
            "",
            "1-1-00",
            &format!("{}-x", name(1, 1)),
            &format!("+{}", name(1, 1)),
        ] {
            assert_eq!(CommitName::parse(bad), None, "{bad}");
        }
    }
}
