-- What an operator changed in a message: the payload before and after.
alter table {s}.audit add column body_before bytea, add column body_after bytea;

-- Replays of many dead letters: jobs that another process can go on with.
create table {s}.dead_replay (
    id uuid primary key,
    actor text not null,
    note text not null,
    asked text not null,
    canary bigint not null,
    rate float8,
    stop_at float8 not null,
    state text collate "C" not null,
    why text not null,
    judged bigint not null,
    began timestamptz not null,
    changed timestamptz not null,
    -- Who sends its letters now, and when that was last heard of.
    runner uuid,
    seen timestamptz
);

-- Their letters, each in its place.
create table {s}.dead_replay_letter (
    replay uuid not null,
    place bigint not null,
    attempt bigint not null,
    id text collate "C" not null,
    consumer text collate "C" not null,
    source text collate "C" not null,
    payload_hash bytea not null,
    outcome text collate "C" not null,
    reason text,
    error text,
    -- The outbox row that runs it again.
    outbox_row uuid,
    sent timestamptz,
    primary key (replay, place)
);
create index dead_replay_letter_id on {s}.dead_replay_letter (id);
