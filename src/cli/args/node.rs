//! The grammar of `init` and `node`: what a host has to have before there is a daemon to ask.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand, ValueEnum};

use super::StoreArgs;

/// `node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Put units, completions and manual pages of this binary on the host, and switch the units on.
    ///
    /// `packaging/install.sh` and a host's first boot call it. It can be repeated, and should be after a new binary was
    /// put in place: tenants run on meanwhile.
    #[command(after_help = "Examples:\n  tenantd node install\n  \
                            tenantd node install --root /var/tmp/package")]
    Install(InstallArgs),
    /// Print the Butane config from which a fresh Fedora CoreOS or uCore machine makes itself a node.
    ///
    /// At its first boot the machine fetches tenantd, makes its keys and settings, brings back what the store has of it
    /// where --restore says so, and starts. The same config makes the same node again on another machine.
    #[command(after_help = "Examples:\n  \
                            tenantd node butane --host host-1 --root-key root.pub --recipient age1… --binary ./tenantd --binary-url https://example.com/tenantd.gz > host-1.bu\n  \
                            tenantd node butane --host host-1 --root-key root --identity identity.txt --store s3://backups --endpoint https://s3.example.com --region eu-1 --credentials s3.key --restore --binary-url https://example.com/tenantd.gz --binary-hash sha512-… --ignition > host-1.ign")]
    Butane(Box<ButaneArgs>),
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The node's name, which snapshots carry; default: the host name.
    #[arg(long)]
    pub name: Option<String>,
    /// The operator's public root key: `ssh-ed25519 …`, or a file that holds it. Default: a new
    /// one, whose secret half is shown once.
    #[arg(long, value_name = "KEY|FILE")]
    pub root_key: Option<String>,
    /// The root key's signature over this node's statement, made where the root key is. The
    /// first `init` says how; may be given later, alone.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<Utf8PathBuf>,
    /// Who can read backups: `age1…`; can be given more than once. Default: a new identity,
    /// which is shown once.
    #[arg(long, value_name = "AGE1…")]
    pub recipient: Vec<String>,
    /// Where backups go.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The S3 keys: a file with two lines, access key id and secret.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// Run tenants although this host cannot enforce some of their limits.
    #[arg(long)]
    pub allow_missing_controllers: bool,
}

/// `node install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Only write the files, below this directory: for packages and images.
    #[arg(long, value_name = "DIR")]
    pub root: Option<Utf8PathBuf>,
    /// Neither switch units on nor start them.
    #[arg(long)]
    pub no_start: bool,
}

/// `node butane`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct ButaneArgs {
    /// The node's name, which is its host name too.
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// The operating system: Fedora CoreOS, or Fedora CoreOS that becomes uCore in two reboots.
    #[arg(long, value_enum, default_value_t = OsChoice::Fcos)]
    pub os: OsChoice,
    /// Where backups go.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The S3 keys, for an s3:// store: a file with two lines, access key id and secret. They become part of the config.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// Who can read backups: `age1…`; can be given more than once. With --identity, its own is the default.
    #[arg(long, value_name = "AGE1…")]
    pub recipient: Vec<String>,
    /// The operator's root key. Its public half makes a node that waits for its certificate; its private half certifies
    /// the node at its first boot, becomes part of the config, and is removed from the host afterwards.
    #[arg(long, value_name = "KEY|FILE")]
    pub root_key: Option<String>,
    /// The identity that reads the backups, for --restore. It becomes part of the config.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<Utf8PathBuf>,
    /// Bring back what the store has of this node, before any tenant starts.
    #[arg(long, requires = "identity")]
    pub restore: bool,
    /// Leave the identity on the host after the restore, for monthly drills. Otherwise it is removed.
    #[arg(long, requires = "identity")]
    pub keep_identity: bool,
    /// Specs that the node begins with: every *.toml in it.
    #[arg(long, value_name = "DIR")]
    pub tenants: Option<Utf8PathBuf>,
    /// Who may log in as `core`: an SSH public key, or a file that holds it; can be given more than once.
    #[arg(long, value_name = "KEY|FILE")]
    pub ssh_key: Vec<String>,
    /// Join a tailnet with the auth key in this file. It becomes part of the config, and is removed after its use.
    #[arg(long, value_name = "FILE")]
    pub tailscale: Option<Utf8PathBuf>,
    /// Where the machine fetches tenantd; a name that ends in `.gz` is decompressed.
    #[arg(long, value_name = "URL", required_unless_present = "binary")]
    pub binary_url: Option<String>,
    /// What must have come: `sha512-` and 128 hexadecimal digits, of the program as it is when decompressed.
    #[arg(long, value_name = "HASH", conflicts_with = "binary")]
    pub binary_hash: Option<String>,
    /// The program that --binary-url leads to, of which the hash is taken, not compressed; without --binary-url it
    /// becomes part of the config, and may be compressed.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<Utf8PathBuf>,
    /// What takes memory that is not used: compressed memory, or nothing. Neither leaves a trace on the disk.
    #[arg(long, value_enum, default_value_t = SwapChoice::Zram)]
    pub swap: SwapChoice,
    /// Run tenants although the host cannot enforce some of their limits.
    #[arg(long)]
    pub allow_missing_controllers: bool,
    /// Do not open the firewall, where there is one, to HTTP and HTTPS.
    #[arg(long)]
    pub no_public_web: bool,
    /// Print Ignition's JSON, which machines take, and not Butane's YAML.
    #[arg(long)]
    pub ignition: bool,
    /// The version of Ignition's format. Images of some providers are old.
    #[arg(long, value_enum, default_value_t = SpecChoice::V3_3)]
    pub spec: SpecChoice,
    /// The most that the provider takes: bytes, or `aws` (16 KB) or `hetzner` (32 KiB). What is larger is split.
    #[arg(long, value_name = "BYTES|NAME", requires = "ignition")]
    pub max_size: Option<String>,
    /// With --max-size: where the machine will find the larger part, over https.
    #[arg(long, value_name = "URL", requires = "max_size")]
    pub payload_url: Option<String>,
    /// With --max-size: write the larger part to this file, to be put there.
    #[arg(long, value_name = "FILE", requires = "payload_url")]
    pub payload: Option<Utf8PathBuf>,
}

/// `--os`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OsChoice {
    /// Fedora CoreOS.
    Fcos,
    /// uCore.
    Ucore,
}

/// `--swap`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SwapChoice {
    /// Compressed memory.
    Zram,
    /// None.
    None,
}

/// `--spec`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SpecChoice {
    /// 3.3.0, Butane's fcos 1.4.0.
    #[value(name = "3.3")]
    V3_3,
    /// 3.4.0, Butane's fcos 1.5.0.
    #[value(name = "3.4")]
    V3_4,
}
