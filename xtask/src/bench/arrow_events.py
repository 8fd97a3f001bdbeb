"""Writes a file of events, a JSON object a line, as Arrow streams: {"events", "folder", "rows"} as JSON on standard input, a
stream of "rows" events to each file, named by its number from 0 on; {"streams"} on standard output."""

import itertools
import json
import sys
from datetime import datetime

import pyarrow as pa

question = json.load(sys.stdin)
schema = pa.schema(
    {
        "id": pa.int64(),
        "user": pa.string(),
        "type": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "url": pa.string(),
        "amount": pa.float64(),
        "properties": pa.struct({"os": pa.string(), "v": pa.int64()}),
        "tags": pa.string(),
    }
)
streams = 0
with open(question["events"]) as lines:
    while part := list(itertools.islice(lines, question["rows"])):
        events = [json.loads(line) for line in part]
        for event in events:
            event["timestamp"] = datetime.fromisoformat(event["timestamp"])
            # As the table has it that is made of JSON.
            event["tags"] = json.dumps(event["tags"], separators=(",", ":"))
        batch = pa.RecordBatch.from_pylist(events, schema=schema)
        with pa.OSFile(f"{question['folder']}/{streams}", "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            writer.write_batch(batch)
        streams += 1
json.dump({"streams": streams}, sys.stdout)
