"""Compares what was sent with what two readers find, value by value.

In on standard input, JSON: {"sent": a file of NDJSON, "columns": {name: type}, "files": [...], "set_aside": [...]};
out on standard output: {"rows", "set_aside", "faults": the first of them in words, "faults_total"}.

What a JSON value means in a column of a type is said here once more, from the documentation alone: nothing of this shares
code with what is judged. A type is its name, {"decimal": [p, s]}, {"list": t}, {"map": t} or {"struct": {name: t}}.
"""

import base64
import datetime
import decimal
import json
import re
import sys
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

SHOWN_FAULTS = 10
# More digits than a decimal column has, or a number of JSON here.
decimal.getcontext().prec = 400


class Misfit(Exception):
    """The value is none of its column's type."""


class Number:
    """A number of JSON, as it was written: equal to the same text as a number alone."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return isinstance(other, Number) and self.text == other.text

    def __repr__(self):
        return self.text


def parsed(text):
    return json.loads(text, parse_int=Number, parse_float=Number)


def bigint(value):
    # JSON's minus zero is a double: a whole number has no sign to keep there.
    if not isinstance(value, Number) or not re.fullmatch(r"-?\d+", value.text) or value.text == "-0":
        raise Misfit
    if not -(2**63) <= int(value.text) < 2**63:
        raise Misfit
    return int(value.text)


def double(value):
    if not isinstance(value, Number):
        raise Misfit
    if re.fullmatch(r"-?\d+", value.text) and int(value.text) != int(float(value.text)):
        raise Misfit
    return float(value.text)


def boolean(value):
    if not isinstance(value, bool):
        raise Misfit
    return value


def varchar(value):
    if not isinstance(value, str):
        raise Misfit
    return value


def date(value):
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", varchar(value)):
        raise Misfit
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise Misfit from None


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)


def timestamp(value):
    """Microseconds since 1970."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", varchar(value)):
        raise Misfit
    try:
        return (datetime.datetime.fromisoformat(value) - EPOCH) // MICROSECOND
    except ValueError:
        raise Misfit from None


def uuid_of(value):
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", varchar(value)):
        raise Misfit
    return uuid.UUID(value)


def binary(value):
    try:
        return base64.b64decode(varchar(value), validate=True)
    except ValueError:
        raise Misfit from None


def decimal_of(value, precision, scale):
    text = value.text if isinstance(value, Number) else varchar(value)
    if not re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", text):
        raise Misfit
    exact = decimal.Decimal(text)
    try:
        stored = exact.quantize(decimal.Decimal(1).scaleb(-scale))
    except decimal.InvalidOperation:
        raise Misfit from None
    if stored != exact or abs(stored) >= decimal.Decimal(10) ** (precision - scale):
        raise Misfit
    return stored


SCALARS = {
    "bigint": bigint,
    "double": double,
    "boolean": boolean,
    "varchar": varchar,
    "date": date,
    "timestamp": timestamp,
    "uuid": uuid_of,
    "binary": binary,
}


def meant(value, of_type):
    """What a sent value is in a column of this type."""
    if value is None:
        return None
    if of_type == "json":
        return value
    if isinstance(of_type, str):
        return SCALARS[of_type](value)
    ((kind, inner),) = of_type.items()
    if kind == "decimal":
        return decimal_of(value, *inner)
    if kind == "list":
        if not isinstance(value, list):
            raise Misfit
        return [meant(item, inner) for item in value]
    if not isinstance(value, dict):
        raise Misfit
    if kind == "map":
        return {key: meant(item, inner) for key, item in value.items()}
    if not value.keys() <= inner.keys():
        raise Misfit
    return {name: meant(value.get(name), field) for name, field in inner.items()}


def found(value, of_type):
    """What a reader's value is, in the same shape."""
    if value is None:
        return None
    if of_type == "json":
        return parsed(value)
    if of_type == "timestamp":
        return (value.replace(tzinfo=datetime.timezone.utc) - EPOCH) // MICROSECOND
    if of_type == "uuid":
        return value if isinstance(value, uuid.UUID) else uuid.UUID(bytes=value) if len(value) == 16 else uuid.UUID(value)
    if isinstance(of_type, str):
        return value
    ((kind, inner),) = of_type.items()
    if kind == "list":
        return [found(item, inner) for item in value]
    if kind == "map":
        pairs = value.items() if isinstance(value, dict) else value
        return {key: found(item, inner) for key, item in pairs}
    if kind == "struct":
        return {name: found(value.get(name), field) for name, field in inner.items()}
    return value


def without_zones(of_type):
    """The same Arrow type with times in UTC as times that name no zone: Python's module of zones may be missing."""
    if pa.types.is_timestamp(of_type):
        return pa.timestamp(of_type.unit)
    if pa.types.is_struct(of_type):
        return pa.struct([field.with_type(without_zones(field.type)) for field in of_type])
    if pa.types.is_map(of_type):
        return pa.map_(of_type.key_type, without_zones(of_type.item_type))
    if pa.types.is_list(of_type):
        return pa.list_(of_type.value_field.with_type(without_zones(of_type.value_type)))
    return of_type


def rows_of(table, columns):
    """Rows of an Arrow table, as dictionaries."""
    values = {}
    for name, of_type in columns.items():
        if name in table.column_names:
            column = table.column(name)
            zoneless = without_zones(column.type)
            column = column if zoneless == column.type else column.cast(zoneless)
            values[name] = [found(value, of_type) for value in column.to_pylist()]
        else:
            values[name] = [None] * table.num_rows
    names = list(values)
    for row in zip(*values.values()):
        yield dict(zip(names, row))


def by_pyarrow(file):
    return pq.ParquetFile(file).read()


DATABASE = duckdb.connect()
DATABASE.execute("SET TimeZone = 'UTC'")


def by_duckdb(file):
    return DATABASE.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [file]).to_arrow_table()


class Judge:
    def __init__(self, columns, lines):
        self.columns = columns
        self.lines = lines
        self.faults = []
        self.faults_total = 0

    def fault(self, words):
        self.faults_total += 1
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(words[:2000])

    def expected(self, row_id):
        """What the record of this number is as a row; none if it is none."""
        record = parsed(self.lines[row_id])
        try:
            if not record.keys() <= self.columns.keys():
                raise Misfit
            return {name: meant(record.get(name), of_type) for name, of_type in self.columns.items()}
        except Misfit:
            return None

    def rows(self, reader, read, files):
        """Which rows a reader finds; each as it was meant, and once."""
        seen = bytearray(len(self.lines))
        for file in files:
            for row in rows_of(read(file), self.columns):
                row_id = row["id"]
                if row_id is None or not 0 <= row_id < len(seen):
                    self.fault(f"{reader}: {file} has a row that was never sent: {row}")
                    continue
                if seen[row_id]:
                    self.fault(f"{reader}: record {row_id} is there twice")
                seen[row_id] = 1
                expected = self.expected(row_id)
                if expected is None:
                    self.fault(f"{reader}: record {row_id} fits no table and is a row: {self.lines[row_id]}")
                elif expected != row:
                    names = [name for name in expected if expected[name] != row[name]]
                    differing = [(name, expected[name], row[name]) for name in names]
                    self.fault(f"{reader}: record {row_id}: (column, sent, stored) {differing}")
        return seen

    def set_aside(self, files):
        """Which records the quarantine holds; each as it was sent."""
        seen = bytearray(len(self.lines))
        for file in files:
            for text in by_pyarrow(file).column("record").to_pylist():
                record = parsed(text)
                row_id = int(record["id"].text)
                if seen[row_id]:
                    self.fault(f"record {row_id} is set aside twice")
                seen[row_id] = 1
                if record != parsed(self.lines[row_id]):
                    self.fault(f"record {row_id} is set aside in other words: {text}")
                elif self.expected(row_id) is not None:
                    self.fault(f"record {row_id} fits its table and is set aside: {text}")
        return seen


def main():
    question = json.load(sys.stdin)
    with open(question["sent"], "rb") as sent:
        lines = sent.read().splitlines()
    judge = Judge(question["columns"], lines)
    set_aside = judge.set_aside(question["set_aside"])
    for reader, read in [("pyarrow", by_pyarrow), ("DuckDB", by_duckdb)]:
        rows = judge.rows(reader, read, question["files"])
        for row_id, (is_row, is_aside) in enumerate(zip(rows, set_aside)):
            if is_row + is_aside != 1:
                judge.fault(f"{reader}: record {row_id} is in {is_row + is_aside} places: {lines[row_id]}")
    answer = {"rows": sum(rows), "set_aside": sum(set_aside)}
    json.dump(answer | {"faults": judge.faults, "faults_total": judge.faults_total}, sys.stdout)


main()
