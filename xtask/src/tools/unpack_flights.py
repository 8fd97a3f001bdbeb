"""Takes flights.csv out of the zip inside the package's tar: arguments are the tar and the file to write."""

import io
import sys
import tarfile
import zipfile

archive, destination = sys.argv[1:]
with tarfile.open(archive) as package:
    member = next(name for name in package.getnames() if name.endswith("/data/flights.csv.zip"))
    zipped = package.extractfile(member).read()
with zipfile.ZipFile(io.BytesIO(zipped)) as inner, open(destination, "wb") as output:
    output.write(inner.read("flights.csv"))
