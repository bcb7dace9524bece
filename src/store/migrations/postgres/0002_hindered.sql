-- What its worker tells of handlers that run less than they could, for `explain` in another process.
alter table {s}.worker add column hindered jsonb not null default '[]';
