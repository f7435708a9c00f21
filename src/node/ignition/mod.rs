//! What a machine is told at its first boot, as Butane and as Ignition say it.
//! It renders values, and knows neither files of this host nor the network.

mod butane;
mod config;
mod first_boot;
mod json;
mod pointer;
mod tailscale;
mod ucore;

pub use butane::to_butane;
pub use config::{Config, Contents, Directory, DropIn, File, Spec, Unit, User};
pub use first_boot::{Binary, FirstBoot, FirstBootError, Os, RootKeyHalf, Secrets};
pub use json::to_ignition;
pub use pointer::{PointerError, SizeLimit, SizeLimitError, Split, split};
