-- What an operator changed in a message: the payload before and after.
alter table audit add column body_before blob;
alter table audit add column body_after blob;

-- Replays of many dead letters: jobs that another process can go on with.
create table dead_replay (
    id      blob    not null primary key,
    actor   text    not null,
    note    text    not null,
    asked   text    not null,
    canary  integer not null,
    rate    real,
    stop_at real    not null,
    state   text    not null,
    why     text    not null,
    judged  integer not null,
    began   integer not null,
    changed integer not null,
    -- Who sends its letters now, and when that was last heard of.
    runner  blob,
    seen    integer
) strict;

-- Their letters, each in its place.
create table dead_replay_letter (
    replay       blob    not null,
    place        integer not null,
    attempt      integer not null,
    id           text    not null,
    consumer     text    not null,
    source       text    not null,
    payload_hash blob    not null,
    outcome      text    not null,
    reason       text,
    error        text,
    -- The outbox row that runs it again.
    outbox_row   blob,
    sent         integer,
    primary key (replay, place)
) strict, without rowid;
create index dead_replay_letter_id on dead_replay_letter (id);
