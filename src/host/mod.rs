//! Adapters: one per outside thing (systemd, Podman, network namespaces, clones, cgroups, clock).
//! An adapter holds no policy; every file, process and clock call of the product is here.

pub mod acme;
pub mod addresses;
pub mod caddy;
pub mod cgroup;
pub mod clock;
pub mod clone;
pub mod credentials;
pub mod dirs;
pub mod dns_hook;
pub mod facts;
pub mod files;
pub mod freezer;
pub mod journal;
pub mod lines;
pub mod lock;
pub mod memory;
pub mod netns;
pub mod occupant;
pub mod peer;
pub mod podman;
pub mod probe;
pub mod process;
pub mod quota;
pub mod secret_mount;
pub mod space;
pub mod systemd;
pub mod tree;
