"""Runs one statement in DuckDB: {"sql", "s3"} as JSON on standard input, {"columns", "rows"} on standard output."""

import json
import math
import os
import sys

import duckdb


def plain(value):
    """What JSON can hold, as it is; anything else as text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value)


def connect(s3):
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'")
    # Its bar, for a statement that lasts, would go to the standard output.
    connection.execute("SET enable_progress_bar = false")
    if s3 is None:
        return connection
    import duckdb_extension_httpfs

    package = os.path.dirname(duckdb_extension_httpfs.__file__)
    extension = os.path.join(package, "extensions", "v" + duckdb.__version__, "httpfs.duckdb_extension")
    connection.load_extension(extension)
    connection.execute(
        "CREATE SECRET lake (TYPE s3, KEY_ID $access_key, SECRET $secret_key, REGION $region, ENDPOINT $endpoint,"
        " URL_STYLE 'path', USE_SSL false)",
        s3,
    )
    return connection


def in_words(relation):
    """The relation with times that have a zone as text: as values they need a module that is not there."""
    names = ['"' + name.replace('"', '""') + '"' for name in relation.columns]
    zoned = [str(of_type) == "TIMESTAMP WITH TIME ZONE" for of_type in relation.types]
    if not any(zoned):
        return relation
    columns = [f"CAST({name} AS VARCHAR) AS {name}" if has_zone else name for name, has_zone in zip(names, zoned)]
    return relation.project(", ".join(columns))


question = json.load(sys.stdin)
try:
    # A statement that writes has nothing to tell.
    relation = connect(question["s3"]).sql(question["sql"])
    result = None if relation is None else in_words(relation)
    columns = [] if result is None else result.columns
    rows = [] if result is None else [[plain(value) for value in row] for row in result.fetchall()]
except duckdb.Error as error:
    sys.exit(f"{type(error).__name__}: {error}")
json.dump({"columns": columns, "rows": rows}, sys.stdout, allow_nan=False)
