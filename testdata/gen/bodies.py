"""Writes the request bodies. Usage: bodies.py OUTDIR"""

import hashlib
import pathlib
import sys

BODIES = {
    "empty.bin": b"",
    "ascii.txt": b"The quick brown fox jumps over the lazy dog.\n",
    # A face, a flag, a family joined by U+200D, a skin tone, "e" with a
    # combining acute accent next to the composed letter, and stacked marks.
    "emoji.txt": (
        "build passed \U0001F600 \U0001F1EB\U0001F1F7 "
        "\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F44D\U0001F3FD "
        "cafe\u0301 caf\u00E9 Z\u0351\u036B\u0343\u036A\n"
    ).encode(),
    "crlf.txt": b"one\r\ntwo\r\n\r\nthree\rfour\nfive\r",
    "nuls.bin": b"\x00\xff\x00abc\x00\xff\xff\xfe\x80\x00def\xff\x00",
    "escapes.json": (
        b'{"text":"\\u00e9\\u0301 \\ud83d\\ude00 \\u0000 \\/ \\"quoted \\\\\\"inner\\\\\\"\\" \\t",\n'
        b' "url":"https:\\/\\/example.com\\/a?b=c&d=%20",\n'
        b' "nested":"{\\"a\\":\\"{\\\\\\"b\\\\\\":1}\\"}", "n":1.0e+2 }\n'
    ),
    "64k.bin": b"".join(
        hashlib.sha256(b"hooktrust body %d" % i).digest() for i in range(2048)
    ),
}

out = pathlib.Path(sys.argv[1])
for name, data in BODIES.items():
    (out / name).write_bytes(data)
