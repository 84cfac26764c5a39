-- From version 2 to version 3: a flush notes what it has completed in `tally`, and the reaper counts it. The tables and
-- views that are new are made by the files of the schema.

drop function if exists absurd.count_completed(text, text, timestamptz, double precision[], double precision[]);
drop function if exists absurd.take_over(uuid, bigint, integer);
