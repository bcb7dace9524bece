-- What its worker tells of handlers that run less than they could, for `explain` in another process. JSON.
alter table worker add column hindered text not null default '[]';
