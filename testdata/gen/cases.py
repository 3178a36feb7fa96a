"""What the Python generators share."""

import base64
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
HASHES = ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"]


def b64(data):
    return base64.b64encode(data).decode()


def secrets():
    """The test secrets of secrets.txt by name."""
    found = {}
    for line in (HERE / "secrets.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, digits = line.split()
            found[name] = bytes.fromhex(digits)
    return found


def write(path, cases):
    """Writes cases as a JSON array, one case a line, without empty fields."""
    lines = []
    for case in cases:
        kept = {k: v for k, v in case.items() if v is not None and (v != "" or k == "value")}
        lines.append(json.dumps(kept, separators=(",", ":")))
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
