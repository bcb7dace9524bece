-- The tables of one service. `{s}` is its quoted schema. Expand-only: the build before this one must be able to work on it.
-- Text that is compared by code is collated "C": byte order is what the writers sort by, so that they never wait in a circle.

-- The Idempotent Receiver, and the audit trail of what was done. Its key leads with a time that is a function of the ID alone, so
-- that all writers work on one hot end of one day's index; then the ID, so that people find a message by nothing but its ID.
create table {s}.inbox (
    key_time timestamptz not null,
    at timestamptz not null,
    duration_ms float8 not null,
    attempt bigint not null,
    version bigint not null,
    worker uuid not null,
    id text collate "C" not null,
    consumer text collate "C" not null,
    source text collate "C" not null,
    fate text collate "C" not null,
    payload_hash bytea not null,
    type text not null,
    build text not null,
    reason text,
    actor text,
    subject text,
    correlation text,
    causation text,
    trace text,
    primary key (key_time, id, consumer, source)
) partition by range (key_time);

-- IDs without a time of their own, and those older than all daily partitions. Their key time is the epoch.
create table {s}.inbox_undated (like {s}.inbox including all);
alter table {s}.inbox attach partition {s}.inbox_undated for values from (minvalue) to ('1970-01-02 00:00:00+00');
-- It is trimmed by `at` in small steps; a block range index costs next to nothing to write.
create index inbox_undated_at on {s}.inbox_undated using brin (at) with (pages_per_range = 32);

-- Tries that did not end done: a log, so it has no unique key.
create table {s}.attempt (
    at timestamptz not null,
    duration_ms float8 not null,
    attempt bigint not null,
    worker uuid not null,
    id text collate "C" not null,
    consumer text collate "C" not null,
    source text collate "C" not null,
    kind text not null,
    error text not null,
    build text not null,
    next timestamptz
);
-- What happened to a message, for people. Off the path of what is done at the first try.
create index attempt_id on {s}.attempt (id);
create index attempt_at on {s}.attempt using brin (at) with (pages_per_range = 32);

-- Business operation keys: who holds one, and with which payload.
create table {s}.operation (
    at timestamptz not null,
    consumer text collate "C" not null,
    key text collate "C" not null,
    hash bytea not null,
    source text collate "C" not null,
    id text collate "C" not null,
    fate text collate "C" not null,
    primary key (consumer, key)
);
create index operation_at on {s}.operation using brin (at) with (pages_per_range = 32);

-- Messages on their way out. `seq` is a UUIDv7 of the writer: identity, order, and the time of writing.
create table {s}.outbox (
    seq uuid primary key,
    owner uuid,
    due timestamptz,
    tries bigint not null default 0,
    destination text collate "C" not null,
    purpose text not null,
    id text collate "C" not null,
    source text not null,
    type text not null,
    causation text,
    key text,
    attributes text not null,
    payload bytea not null,
    problem text
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
-- Rows live for milliseconds: compressing them is work for nothing.
alter table {s}.outbox alter column payload set storage external;
-- What a sweep may take. Rows with an owner, which is all that the hot path writes, are not in it.
create index outbox_free on {s}.outbox (coalesce(due, '1970-01-01 00:00:00+00'::timestamptz), seq) where owner is null;
-- Rows of a lost worker, and what did not fit into the memory of a living one.
create index outbox_owner on {s}.outbox (owner, seq) where owner is not null;
-- "What comes next, and when?" For what waits; a row with an owner is about to leave, and is not worth an index entry of its own.
create index outbox_id on {s}.outbox (id) where owner is null;

create table {s}.document (
    collection text collate "C" not null,
    id text collate "C" not null,
    version bigint not null default 1,
    schema bigint not null,
    body jsonb not null,
    primary key (collection, id)
) with (fillfactor = 90);

create table {s}.dead_letter (
    first_at timestamptz not null,
    last_at timestamptz not null,
    attempt bigint not null,
    version bigint not null,
    count bigint not null,
    worker uuid not null,
    id text collate "C" not null,
    consumer text collate "C" not null,
    source text collate "C" not null,
    payload_hash bytea not null,
    state text collate "C" not null,
    channel text not null,
    subscription text not null,
    type text not null,
    reason text not null,
    error text not null,
    attributes text not null,
    build text not null,
    payload bytea not null,
    -- The ID first: people ask by it.
    primary key (id, consumer, source, attempt, payload_hash)
);
-- "Newest first", and what retention has passed.
create index dead_letter_last_at on {s}.dead_letter (last_at);

create table {s}.consumer (
    name text collate "C" primary key,
    first_seen timestamptz not null
);

create table {s}.claim (
    consumer text collate "C" not null,
    source text collate "C" not null,
    id text collate "C" not null,
    count bigint not null,
    worker uuid not null,
    at timestamptz not null,
    primary key (consumer, source, id)
);

create table {s}.worker (
    id uuid primary key,
    service text not null,
    place text not null,
    build text not null,
    started timestamptz not null,
    seen timestamptz not null
) with (fillfactor = 50);

create table {s}.audit (
    at timestamptz not null,
    actor text not null,
    action text not null,
    target text collate "C" not null,
    reason text not null
);
create index audit_target on {s}.audit (target);
