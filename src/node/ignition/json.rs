//! The Ignition form: the JSON that the machine reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::config::{Config, Contents, File, Spec, Unit};

/// The config as Ignition's JSON.
pub fn to_ignition(config: &Config, spec: Spec) -> String {
    let mut root = Map::new();
    root.insert("ignition".to_owned(), json!({ "version": spec.ignition() }));
    if !config.users.is_empty() {
        let users: Vec<_> = config
            .users
            .iter()
            .map(|user| json!({ "name": user.name, "sshAuthorizedKeys": user.ssh_keys }))
            .collect();
        root.insert("passwd".to_owned(), json!({ "users": users }));
    }
    let mut storage = Map::new();
    if !config.directories.is_empty() {
        let directories: Vec<_> = config
            .directories
            .iter()
            .map(|directory| json!({ "path": directory.path, "mode": directory.mode }))
            .collect();
        storage.insert("directories".to_owned(), directories.into());
    }
    storage.insert(
        "files".to_owned(),
        config.files.iter().map(of_file).collect(),
    );
    root.insert("storage".to_owned(), storage.into());
    let units: Value = config.units.iter().map(of_unit).collect();
    root.insert("systemd".to_owned(), json!({ "units": units }));
    Value::from(root).to_string()
}

fn of_file(file: &File) -> Value {
    let contents = match &file.contents {
        Contents::Text(_) | Contents::Secret(_) => {
            let text = file.contents.text().unwrap_or_default();
            json!({ "source": data(text.as_bytes()) })
        }
        Contents::Bytes { bytes, gzip } => {
            with_compression(json!({ "source": data(bytes) }), *gzip)
        }
        Contents::Remote { url, hash, gzip } => with_compression(
            json!({ "source": url, "verification": { "hash": hash } }),
            *gzip,
        ),
    };
    if file.append {
        return json!({ "path": file.path, "append": [contents] });
    }
    json!({ "path": file.path, "mode": file.mode, "overwrite": true, "contents": contents })
}

fn with_compression(mut contents: Value, gzip: bool) -> Value {
    if gzip {
        contents["compression"] = "gzip".into();
    }
    contents
}

fn of_unit(unit: &Unit) -> Value {
    let mut value = json!({ "name": unit.name });
    if let Some(enabled) = unit.enabled {
        value["enabled"] = enabled.into();
    }
    if let Some(contents) = &unit.contents {
        value["contents"] = contents.as_str().into();
    }
    if !unit.drop_ins.is_empty() {
        value["dropins"] = unit
            .drop_ins
            .iter()
            .map(|drop_in| json!({ "name": drop_in.name, "contents": drop_in.contents }))
            .collect();
    }
    value
}

/// Bytes as a `data` URL (RFC 2397).
pub(super) fn data(bytes: &[u8]) -> String {
    format!("data:;base64,{}", STANDARD.encode(bytes))
}
