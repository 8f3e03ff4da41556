"""One pass of dlt over `people`: what changed since the pass before goes one way, from one database to the other.

Given both URLs and a folder for what dlt remembers. Prints the pass's seconds; starting Python and importing dlt is none of it.
"""

import os
import sys
import time

# Nothing goes out of the machine, and stdout is for the seconds.
os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}

# This file is named as the package is, so its own folder must not be where imports are looked for first.
del sys.path[0]
import dlt
from dlt.sources.sql_database import sql_table

source, target, remembered = sys.argv[1:]
began = time.monotonic()
people = sql_table(
    source,
    table="people",
    incremental=dlt.sources.incremental("updated_at"),
    backend="connectorx",
    primary_key="id",
    write_disposition="merge",
)
pipeline = dlt.pipeline(
    "people",
    pipelines_dir=remembered,
    destination=dlt.destinations.postgres(target),
    dataset_name="public",
)
pipeline.run(people).raise_on_failed_jobs()
print(time.monotonic() - began)
