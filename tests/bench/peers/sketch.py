"""The sidecar's endpoints as a first sketch has them, to be measured beside it: records go to a list in memory and are
acknowledged at once; when there are enough of them, or on /flush, DuckDB writes them to S3.

What it acknowledges is lost with the process. Usage: sketch.py PORT, with AWS_* in the environment.
"""

import asyncio
import json
import os
import sys
import tempfile

import duckdb
import duckdb_extension_httpfs
import uvicorn
from fastapi import FastAPI, Request

FLUSH_ROWS = 500_000

app = FastAPI()
buffers: dict[str, list] = {}
written = 0
lock = asyncio.Lock()


def connect():
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    package = os.path.dirname(duckdb_extension_httpfs.__file__)
    connection.load_extension(
        os.path.join(package, "extensions", "v" + duckdb.__version__, "httpfs.duckdb_extension")
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE SECRET lake (TYPE s3, KEY_ID $key, SECRET $secret, REGION $region, ENDPOINT $endpoint,"
        " URL_STYLE 'path', USE_SSL false)",
        {
            "key": os.environ["AWS_ACCESS_KEY_ID"],
            "secret": os.environ["AWS_SECRET_ACCESS_KEY"],
            "region": os.environ["AWS_REGION"],
            "endpoint": os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"),
        },
    )
    return connection


def write(connection, table, records):
    """Writes records as Parquet files, a folder for each day."""
    global written
    written += 1
    with tempfile.NamedTemporaryFile("w", suffix=".json") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
        lines.flush()
        target = f"s3://{os.environ['LAKE_BUCKET']}/sketch/{table}"
        connection.execute(
            "COPY (SELECT *, year(partition_date) AS year, month(partition_date) AS month, day(partition_date) AS day"
            f" FROM read_json('{lines.name}', format = 'newline_delimited'))"
            f" TO '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (year, month, day), APPEND,"
            f" FILENAME_PATTERN 'data_{written}_{{uuid}}')"
        )


async def flush(table):
    async with lock:
        records, buffers[table] = buffers.get(table, []), []
        if records:
            await asyncio.to_thread(write, app.state.connection, table, records)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/ingest/stream", status_code=202)
async def stream(request: Request):
    envelope = await request.json()
    table, date = envelope["table_name"], envelope["partition_date"]
    records = envelope["records"]
    buffer = buffers.setdefault(table, [])
    buffer.extend({**record, "partition_date": date} for record in records)
    if len(buffer) >= FLUSH_ROWS:
        asyncio.get_running_loop().create_task(flush(table))
    return {"status": "ok", "rows": len(records), "quarantined": 0}


@app.post("/flush")
async def flush_all():
    for table in list(buffers):
        await flush(table)
    return {"status": "ok", "files": []}


app.state.connection = connect()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
