//! The domain: spec, plan, template, revision, state machine.
//! Pure values and functions; nothing here knows a file, a process or a clock.

mod capability;
mod catalog;
mod check;
mod cpus;
mod destination;
mod egress;
mod endpoint;
mod failure;
mod host_name;
mod id;
mod image;
mod live;
mod money;
mod period;
mod plan;
mod price;
mod problem;
mod public_host;
mod resolve;
mod resolved;
mod revision;
mod runtime;
pub mod schema;
mod secret;
mod size;
mod source;
mod spec;
mod state;
mod suggest;
pub mod tables;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod upstream;
mod wake;

pub use capability::{Capability, CapabilityError};
pub use catalog::Catalog;
pub use check::is_mount_name;
pub use cpus::{Cpus, CpusError};
pub use destination::{Destination, DestinationError, PrivateNetwork, WEB_PORTS};
pub use egress::{Egress, EgressMode, EgressPolicy, EgressRuntime};
pub use endpoint::{
    ENDPOINTS_PORT, Endpoint, EndpointSettings, Endpoints, KeyStyle, KeyStyleError, PLACEHOLDER,
    ResolvedEndpoint, Spending, SpendingPeriod, base_url,
};
pub use failure::FailureCause;
pub use host_name::{HostName, HostNameError};
pub use id::{TenantId, TenantIdError};
pub use image::{ImageId, ImageIdError, ImageRef, ImageRefError};
pub use live::{LiveChange, ValueChange, live_change};
pub use money::{Money, MoneyError};
pub use period::{Period, PeriodError};
pub use plan::{Limits, Plan};
pub use price::{ModelPrice, PriceTable, Tokens, cost};
pub use problem::{Place, Problem, Problems};
pub use public_host::{PublicHost, PublicHostError};
pub use resolve::resolve;
pub use resolved::{LiveProbe, ResolvedSpec, ResolvedStop, StartProbe};
pub use revision::{Revision, RevisionNumber};
pub use runtime::{
    DeliveredSecret, HttpProbe, QuiesceCall, QuiesceCalls, Runtime, SecretDelivery, StateMount,
    StorageLimit,
};
pub use secret::{
    ENTRY_PATH, Generate, MAX_SECRET, MAX_SECRETS, MAX_SECRETS_TOTAL, Reference, ReferenceError,
    ResolvedSecret, SECRETS_PATH, Secret, SecretName, SecretNameError, SecretSource, SecretVersion,
    SecretVersions, Secrets,
};
pub use size::{Size, SizeError};
pub use source::{MAX_BYTES, Source};
pub use spec::Spec;
pub use state::{Edge, IllegalTransition, TenantState};
pub use tables::{KillMode, User};
pub use template::Template;
pub use upstream::{Upstream, UpstreamError, UpstreamHost};
pub use wake::{SleepTimes, WakeMode};
