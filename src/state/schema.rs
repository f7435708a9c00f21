//! The tables, as a list of migrations that is only ever appended to.
//! `PRAGMA user_version` counts those that have run.

/// Each migration runs once, in order, inside a transaction.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE tenants (
        id               TEXT PRIMARY KEY,
        state            TEXT NOT NULL,
        reason           TEXT,
        wanted           TEXT NOT NULL,
        held_because     TEXT,
        source           TEXT,
        current_revision INTEGER,
        good_revision    INTEGER,
        id_range         INTEGER NOT NULL UNIQUE,
        created_at       TEXT NOT NULL,
        changed_at       TEXT NOT NULL
    ) STRICT;

    -- Outlives its tenant: ids on disk must never come to mean somebody else.
    CREATE TABLE id_ranges (
        start  INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL
    ) STRICT;

    CREATE TABLE revisions (
        tenant     TEXT NOT NULL,
        number     INTEGER NOT NULL,
        operation  TEXT NOT NULL,
        created_at TEXT NOT NULL,
        document   TEXT NOT NULL,
        unit_set   TEXT NOT NULL,
        PRIMARY KEY (tenant, number),
        UNIQUE (tenant, operation)
    ) STRICT;

    CREATE TABLE operations (
        id          TEXT PRIMARY KEY,
        kind        TEXT NOT NULL,
        tenant      TEXT,
        request     TEXT NOT NULL,
        actor       TEXT NOT NULL,
        status      TEXT NOT NULL,
        step        TEXT,
        outcome     TEXT,
        started_at  TEXT NOT NULL,
        finished_at TEXT
    ) STRICT;
    CREATE INDEX operations_open ON operations (status) WHERE finished_at IS NULL;

    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        at       TEXT NOT NULL,
        actor    TEXT NOT NULL,
        tenant   TEXT,
        action   TEXT NOT NULL,
        detail   TEXT
    ) STRICT;
",
    "
    -- Transitions are lines of the audit log that have an edge.
    ALTER TABLE audit ADD COLUMN edge TEXT;
    ALTER TABLE audit ADD COLUMN cause TEXT;
    CREATE INDEX audit_of_tenant ON audit (tenant, sequence);
    ALTER TABLE tenants ADD COLUMN cause TEXT;

    -- A tenant that is terminated, or about to be, and what to go back to.
    CREATE TABLE endings (
        tenant       TEXT PRIMARY KEY,
        wanted       TEXT NOT NULL,
        held_because TEXT,
        erase_at     TEXT
    ) STRICT;

    -- Starts that tenantd tries by itself after systemd has given up.
    CREATE TABLE retries (
        tenant   TEXT PRIMARY KEY,
        attempts INTEGER NOT NULL,
        next_try TEXT
    ) STRICT;

    -- Revisions that were rolled back. `image` is set where the image is to blame; `counts` is
    -- unset once an operator has closed the breaker.
    CREATE TABLE rollbacks (
        tenant   TEXT NOT NULL,
        revision INTEGER NOT NULL,
        at       TEXT NOT NULL,
        image    TEXT,
        counts   INTEGER NOT NULL DEFAULT 1,
        PRIMARY KEY (tenant, revision)
    ) STRICT;
    ",
    // Revisions that answer and have still to show that they are good.
    "
    CREATE TABLE trials (
        tenant          TEXT PRIMARY KEY,
        revision        INTEGER NOT NULL,
        operation       TEXT NOT NULL,
        ends_at         TEXT NOT NULL,
        restarts_before INTEGER NOT NULL,
        crashes         INTEGER NOT NULL,
        failure         TEXT
    ) STRICT;
",
    // Why a revision failed, and that a tenant's erasure has begun: half of one is nothing to come back to.
    "
    ALTER TABLE rollbacks ADD COLUMN cause TEXT;
    ALTER TABLE trials ADD COLUMN cause TEXT;
    ALTER TABLE endings ADD COLUMN erasing INTEGER NOT NULL DEFAULT 0;
",
    // API tokens, by the hash of their text.
    "
    CREATE TABLE tokens (
        hash       TEXT PRIMARY KEY,
        id         TEXT NOT NULL UNIQUE,
        name       TEXT NOT NULL,
        scope      TEXT NOT NULL,
        created_at TEXT NOT NULL,
        created_by TEXT NOT NULL,
        expires_at TEXT,
        last_used  TEXT
    ) STRICT;
",
];
