//! How a tenant's endpoints get their keys: which credentials systemd decrypts for their door.
//! Names and versions only; no value comes near a unit file.

use sha2::{Digest, Sha256};

use super::unit_file::UnitText;
use crate::layout::Layout;
use crate::tenant::{ResolvedSpec, SecretVersions};

/// The drop-in of `tenantd-endpoints@` that names its keys. It names no revision: the door is started anew when this
/// changes, and only then.
pub fn drop_in(spec: &ResolvedSpec, versions: &SecretVersions, layout: &Layout) -> String {
    let mut unit = UnitText::new(format_args!(
        "tenantd wrote this for tenant {}. Change the spec, not this file.",
        spec.tenant
    ));
    let settings = serde_json::to_vec(&spec.endpoints);
    let settings = settings.expect("settings have no map with other keys than strings");
    unit.section("Unit")
        .comment("Of what the door reads from runtime.json; systemd has no use for it.")
        .key("X-Tenantd-Settings", hex::encode(Sha256::digest(settings)));
    unit.section("Service");
    for name in spec
        .secrets
        .keys()
        .filter(|name| spec.endpoints.has_key(name))
    {
        if let Some(version) = versions.get(name) {
            let path = layout.secret_credential(&spec.tenant, name, *version);
            unit.key("LoadCredentialEncrypted", format_args!("{name}:{path}"));
        }
    }
    unit.finish()
}
