//! The routes, one file per resource. Each reads its arguments, asks the engine, answers.

pub mod backups;
pub mod catalog;
pub mod egress;
pub mod exec;
pub mod front;
pub mod logs;
pub mod node;
pub mod operations;
pub mod revisions;
pub mod secrets;
pub mod sleep;
pub mod spending;
pub mod tenants;
pub mod tokens;
pub mod usage;
