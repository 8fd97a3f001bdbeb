"""Loads a CSV into a folder of Parquet files by year, month and day with DuckDB alone, on one thread:
{"csv", "folder"} as JSON on standard input, {"rows", "wall_seconds", "cpu_seconds"} on standard output."""

import json
import sys
import time

import duckdb

question = json.load(sys.stdin)
connection = duckdb.connect(config={"threads": 1})
# Its bar would go to the standard output.
connection.execute("SET enable_progress_bar = false")
wall, cpu = time.perf_counter(), time.process_time()
(rows,) = connection.execute(
    "COPY (SELECT * FROM read_csv($csv, nullstr = 'NA'))"
    f" TO '{question['folder']}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (year, month, day))",
    {"csv": question["csv"]},
).fetchone()
answer = {"rows": rows, "wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
json.dump(answer, sys.stdout)
