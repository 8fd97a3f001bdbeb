"""Runs one statement in ClickHouse: {"sql"} as JSON on standard input, {"columns", "rows"} on standard output."""

import json
import os
import sys

import chdb

SETTINGS = "output_format_json_quote_64bit_integers = 0, output_format_json_quote_decimals = 1, session_timezone = 'UTC'"

question = json.load(sys.stdin)
try:
    answer = json.loads(str(chdb.query(f"{question['sql']} SETTINGS {SETTINGS}", "JSONCompact")))
    columns = [column["name"] for column in answer["meta"]]
    json.dump({"columns": columns, "rows": answer["data"]}, sys.stdout, allow_nan=False)
    status = 0
except Exception as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    status = 1
sys.stdout.flush()
sys.stderr.flush()
# Its threads can hang at the end of the interpreter.
os._exit(status)
