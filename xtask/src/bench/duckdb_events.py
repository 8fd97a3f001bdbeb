"""Loads a file of events, a JSON object a line, into Parquet files by day on S3 with DuckDB alone, on one thread:
{"events", "target", "s3"} as JSON on standard input, {"rows", "wall_seconds", "cpu_seconds"} on standard output."""

import json
import os
import sys
import time

import duckdb
import duckdb_extension_httpfs

question = json.load(sys.stdin)
settings = {"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
connection = duckdb.connect(config=settings)
package = os.path.dirname(duckdb_extension_httpfs.__file__)
connection.load_extension(
    os.path.join(package, "extensions", "v" + duckdb.__version__, "httpfs.duckdb_extension")
)
connection.execute(
    "CREATE SECRET lake (TYPE s3, KEY_ID $access_key, SECRET $secret_key, REGION $region, ENDPOINT $endpoint,"
    " URL_STYLE 'path', USE_SSL false)",
    question["s3"],
)
# Its bar would go to the standard output.
connection.execute("SET enable_progress_bar = false")
columns = {
    "id": "BIGINT",
    "user": "VARCHAR",
    "type": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "url": "VARCHAR",
    "amount": "DOUBLE",
    "properties": "STRUCT(os VARCHAR, v BIGINT)",
    "tags": "VARCHAR",
}
read = f"read_json('{question['events']}', format = 'newline_delimited', columns = {columns})"
wall, cpu = time.perf_counter(), time.process_time()
(rows,) = connection.execute(
    "SET TimeZone = 'UTC';"
    f"COPY (SELECT *, year(timestamp) AS year, month(timestamp) AS month, day(timestamp) AS day FROM {read})"
    f" TO '{question['target']}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (year, month, day))"
).fetchone()
answer = {"rows": rows, "wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
json.dump(answer, sys.stdout)
