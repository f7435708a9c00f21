//! JSON Schemas of the documents that operators write, for editors and other programs.
//! They are committed under `docs/schema/`; a test keeps them current.

use serde_json::Value;

use super::{Plan, PriceTable, Spec, Template};

/// The schema of `tenant.toml`.
pub fn spec() -> Value {
    schemars::schema_for!(Spec).to_value()
}

/// The schema of a template.
pub fn template() -> Value {
    schemars::schema_for!(Template).to_value()
}

/// The schema of a plan.
pub fn plan() -> Value {
    schemars::schema_for!(Plan).to_value()
}

/// The schema of a price table.
pub fn prices() -> Value {
    schemars::schema_for!(PriceTable).to_value()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `TENANTD_REGENERATE=1 cargo test --lib schema` writes the files anew.
    #[rstest]
    #[case("tenant", spec())]
    #[case("template", template())]
    #[case("plan", plan())]
    #[case("prices", prices())]
    fn the_committed_schema_is_current(#[case] name: &str, #[case] schema: Value) {
        let path = format!(
            "{}/docs/schema/{name}.schema.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = format!("{schema:#}\n");
        if std::env::var_os("TENANTD_REGENERATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, text, "{path} is not current");
    }
}
