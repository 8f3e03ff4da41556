-- It reads the jobs that are due in their order and stops at its limit. Left to the planner, which guesses that its conditions leave few of
-- them, it read and sorted all of a long queue.
alter function bridge.workers_wanted(text[], text[], integer, integer, integer) set enable_sort = off;
alter function bridge.workers_wanted(text[], text[], integer, integer, integer) set enable_bitmapscan = off;
