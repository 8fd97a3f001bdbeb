"""Takes flights.csv, which is in a zip, and weather.csv out of the package's tar: arguments are the tar and the folder to write
to."""

import io
import os
import sys
import tarfile
import zipfile

archive, destination = sys.argv[1:]
with tarfile.open(archive) as package:
    member = next(name for name in package.getnames() if name.endswith("/data/flights.csv.zip"))
    zipped = package.extractfile(member).read()
    member = next(name for name in package.getnames() if name.endswith("/data/weather.csv"))
    weather = package.extractfile(member).read()
with zipfile.ZipFile(io.BytesIO(zipped)) as inner, open(os.path.join(destination, "flights.csv"), "wb") as output:
    output.write(inner.read("flights.csv"))
with open(os.path.join(destination, "weather.csv"), "wb") as output:
    output.write(weather)
