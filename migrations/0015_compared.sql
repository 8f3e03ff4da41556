-- When whole tables were compared last is asked of every customer at once, however many runs each of them had.
create index run_swept on bridge.run (customer, ended_at) where sweep;
