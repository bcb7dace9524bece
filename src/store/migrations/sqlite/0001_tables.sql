-- Times are microseconds since 1970 in UTC, uuids 16 bytes in network order (so that UUIDv7s sort by their time).

-- Leads with the time inside a UUIDv7 id (0: an id without one), so that a commit writes to the end of the tree. The command audit
-- trail too.
create table inbox (
    key_time     integer not null,
    consumer     text    not null,
    source       text    not null,
    id           text    not null,
    attempt      integer not null,
    fate         text    not null,
    payload_hash blob    not null,
    reason       text,
    type         text    not null,
    version      integer not null,
    actor        text,
    subject      text,
    correlation  text,
    causation    text,
    trace        text,
    at           integer not null,
    duration_ms  real    not null,
    worker       blob    not null,
    build        text    not null,
    primary key (key_time, consumer, source, id)
) strict, without rowid;
-- Only ids without a time of their own pay for these.
create index inbox_undated_id on inbox (id) where key_time = 0;
create index inbox_undated_at on inbox (at) where key_time = 0;

-- The tries that did not end done.
create table attempt (
    consumer    text    not null,
    source      text    not null,
    id          text    not null,
    attempt     integer not null,
    kind        text    not null,
    error       text    not null,
    at          integer not null,
    duration_ms real    not null,
    worker      blob    not null,
    build       text    not null,
    next        integer
) strict;
create index attempt_id on attempt (id);
create index attempt_at on attempt (at);

-- Explicit idempotency keys, and the message that holds each.
create table operation (
    consumer text    not null,
    key      text    not null,
    hash     blob    not null,
    key_time integer not null,
    source   text    not null,
    id       text    not null,
    at       integer not null,
    primary key (consumer, key)
) strict, without rowid;
create index operation_at on operation (at);
create index operation_id on operation (id);

create table document (
    collection text    not null,
    id         text    not null,
    version    integer not null,
    schema     integer not null,
    body       text    not null,
    primary key (collection, id)
) strict;

-- Each row is in exactly one of the three partial indexes: somebody's, nobody's, or waiting for its time.
create table outbox (
    seq         blob    not null primary key,
    owner       blob,
    due         integer,
    key         text,
    destination text    not null,
    purpose     text    not null,
    id          text    not null,
    source      text    not null,
    type        text    not null,
    causation   text,
    attributes  text    not null,
    payload     blob    not null,
    tries       integer not null default 0,
    problem     text,
    created     integer not null
) strict;
create index outbox_owned on outbox (owner, seq, destination) where owner is not null;
create index outbox_free on outbox (seq) where owner is null and due is null;
create index outbox_due on outbox (due, seq) where owner is null and due is not null;

create table dead_letter (
    consumer     text    not null,
    source       text    not null,
    id           text    not null,
    attempt      integer not null,
    payload_hash blob    not null,
    state        text    not null,
    channel      text    not null,
    subscription text    not null,
    type         text    not null,
    version      integer not null,
    reason       text    not null,
    error        text    not null,
    attributes   text    not null,
    payload      blob    not null,
    count        integer not null,
    first_at     integer not null,
    last_at      integer not null,
    worker       blob    not null,
    build        text    not null,
    primary key (consumer, source, id, attempt, payload_hash)
) strict;
create index dead_letter_id on dead_letter (id);
create index dead_letter_last on dead_letter (last_at);
create index dead_letter_state on dead_letter (state, last_at);

-- Deliveries that were begun and never ended.
create table claim (
    consumer text    not null,
    source   text    not null,
    id       text    not null,
    count    integer not null,
    worker   blob    not null,
    at       integer not null,
    primary key (consumer, source, id)
) strict, without rowid;

create table worker (
    id      blob    not null primary key,
    service text    not null,
    place   text    not null,
    build   text    not null,
    started integer not null,
    beat    integer not null
) strict;

create table consumer (
    name       text    not null primary key,
    first_seen integer not null
) strict;

-- What operators did.
create table audit (
    actor  text    not null,
    action text    not null,
    target text    not null,
    reason text    not null,
    at     integer not null
) strict;
create index audit_target on audit (target);
