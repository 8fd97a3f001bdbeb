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


ZONED = "TIMESTAMP WITH TIME ZONE"


def in_words(relation):
    """The relation with times that have a zone as text: as values they need a module that is not there. What has one
    inside is JSON."""
    names = ['"' + name.replace('"', '""') + '"' for name in relation.columns]
    if not any(ZONED in str(of_type) for of_type in relation.types):
        return relation

    def column(name, of_type):
        if str(of_type) == ZONED:
            return f"CAST({name} AS VARCHAR) AS {name}"
        return f"to_json({name}) AS {name}" if ZONED in str(of_type) else name

    return relation.project(", ".join(map(column, names, relation.types)))


def rows_of(relation):
    """All rows, as JSON can hold them."""
    is_json = [ZONED in str(of_type) and str(of_type) != ZONED for of_type in relation.types]

    def value_of(value, is_json):
        return json.loads(value) if is_json and value is not None else plain(value)

    return [list(map(value_of, row, is_json)) for row in in_words(relation).fetchall()]


question = json.load(sys.stdin)
try:
    # A statement that writes has nothing to tell.
    relation = connect(question["s3"]).sql(question["sql"])
    columns = [] if relation is None else relation.columns
    rows = [] if relation is None else rows_of(relation)
except duckdb.Error as error:
    sys.exit(f"{type(error).__name__}: {error}")
json.dump({"columns": columns, "rows": rows}, sys.stdout, allow_nan=False)
