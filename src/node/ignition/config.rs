//! A machine's first configuration, as far as nodes need one. Both of its written forms say the same.

use secrecy::{ExposeSecret as _, SecretString};

/// The format's version, in both of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// Ignition 3.3.0, Butane's fcos 1.4.0.
    V3_3,
    /// Ignition 3.4.0, Butane's fcos 1.5.0.
    V3_4,
}

impl Spec {
    /// As Ignition calls it.
    pub fn ignition(self) -> &'static str {
        match self {
            Self::V3_3 => "3.3.0",
            Self::V3_4 => "3.4.0",
        }
    }

    /// As Butane calls it (its variant `fcos`).
    pub fn butane(self) -> &'static str {
        match self {
            Self::V3_3 => "1.4.0",
            Self::V3_4 => "1.5.0",
        }
    }
}

/// All that a machine is told.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What it is, for the reader.
    pub about: Vec<String>,
    /// Who may log in.
    pub users: Vec<User>,
    /// Directories with a mode of their own.
    pub directories: Vec<Directory>,
    /// Files.
    pub files: Vec<File>,
    /// Units.
    pub units: Vec<Unit>,
}

/// Somebody who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// Public keys.
    pub ssh_keys: Vec<String>,
}

/// A directory.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Where.
    pub path: String,
    /// Its mode.
    pub mode: u32,
}

/// A file.
#[derive(Debug, Clone)]
pub struct File {
    /// Why it is there, for the reader; may be empty.
    pub why: String,
    /// Where.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub contents: Contents,
    /// Add to the file that is there, instead of being it.
    pub append: bool,
}

/// What is in a file.
#[derive(Debug, Clone)]
pub enum Contents {
    /// This text.
    Text(String),
    /// This text, which is nobody's business.
    Secret(SecretString),
    /// These bytes.
    Bytes {
        /// The bytes, as they are carried.
        bytes: Vec<u8>,
        /// Whether they are to be decompressed.
        gzip: bool,
    },
    /// What is fetched from elsewhere.
    Remote {
        /// Where.
        url: String,
        /// What must have come: `sha512-…`. Of what was decompressed, where it is: so Ignition does it (tried).
        hash: String,
        /// Whether they are to be decompressed.
        gzip: bool,
    },
}

impl Contents {
    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Secret(text) => Some(text.expose_secret()),
            Self::Bytes { .. } | Self::Remote { .. } => None,
        }
    }
}

/// A unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Why it is there, for the reader; may be empty.
    pub why: String,
    /// Its name.
    pub name: String,
    /// Whether it is switched on; none leaves it as it is.
    pub enabled: Option<bool>,
    /// Its file; none for a unit that the image has.
    pub contents: Option<String>,
    /// What is added to it.
    pub drop_ins: Vec<DropIn>,
}

/// A unit's drop-in.
#[derive(Debug, Clone)]
pub struct DropIn {
    /// Its file's name.
    pub name: String,
    /// Its file.
    pub contents: String,
}
