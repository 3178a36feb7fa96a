"""Signs and tampers with Python's hmac module.

Usage: hmac_vectors.py TESTDATA
"""

import hashlib
import hmac
import itertools
import pathlib
import sys

from cases import HASHES, b64, secrets, write

ROOT = pathlib.Path(sys.argv[1])
SECRETS = secrets()
BODIES = ["empty.bin", "ascii.txt", "emoji.txt", "crlf.txt", "nuls.bin", "escapes.json", "64k.bin"]
SMALL = ["ascii.txt", "emoji.txt", "crlf.txt", "nuls.bin", "escapes.json"]


def mac(secret, body, hash):
    return hmac.new(secret, body, hash.lower()).digest()


def read(body):
    return (ROOT / "bodies" / body).read_bytes()


def encode(sig, encoding):
    return sig.hex() if encoding == "hex" else b64(sig)


def prefix_of(hash, encoding):
    return hash.lower() + "=" if encoding == "hex" else ""


def good():
    for hash, (sname, secret), body, style in itertools.product(
        HASHES, SECRETS.items(), BODIES, ["hex", "upper", "base64"]
    ):
        if style == "upper" and sname != "ascii20":
            continue
        encoding = "base64" if style == "base64" else "hex"
        text = encode(mac(secret, read(body), hash), encoding)
        if style == "upper":
            text = text.upper()
        prefix = prefix_of(hash, encoding)
        yield {
            "name": f"hmac-python-{hash.lower()}-{style}-{sname}-{body.split('.')[0]}",
            "source": "python3",
            "kind": "hmac",
            "hash": hash,
            "encoding": encoding,
            "prefix": prefix,
            "secret": b64(secret),
            "body": body,
            "value": prefix + text,
            "want": "ok",
        }


def tampered():
    turn = itertools.count()
    for hash, encoding in itertools.product(HASHES, ["hex", "base64"]):
        secret = SECRETS["ascii20"]
        prefix = prefix_of(hash, encoding)

        def case(why, want, change, needs=None):
            """One case: change(sig, text, data) gives the whole header value."""
            body = SMALL[next(turn) % len(SMALL)]
            data, inline = read(body), None
            if needs:
                # Use the first numbered body whose signature can show this tampering.
                for n in itertools.count():
                    data = b"delivery %d" % n
                    if needs(encode(mac(secret, data, hash), encoding)):
                        break
                body, inline = None, b64(data)
            sig = mac(secret, data, hash)
            return {
                "name": f"hmac-tampered-{hash.lower()}-{encoding}-{why}",
                "source": "python3",
                "kind": "hmac",
                "hash": hash,
                "encoding": encoding,
                "prefix": prefix,
                "secret": b64(secret),
                "body": body,
                "body64": inline,
                "flipbit": (7 * len(data)) // 2 if why == "body-bit" else None,
                "value": change(sig, encode(sig, encoding), data),
                "want": want,
                "why": why,
            }

        def resigned(make):
            return lambda sig, text, data: prefix + encode(make(sig, data), encoding)

        def other(sig, data):
            """Another hash's HMAC, cut or filled up to this hash's length."""
            wide = mac(secret, data, "SHA384" if hash == "SHA512" else "SHA512")
            return wide[: len(sig)].ljust(len(sig), b"\0")

        size = hashlib.new(hash.lower()).digest_size
        next_hash = HASHES[(HASHES.index(hash) + 1) % len(HASHES)]
        half = lambda t: len(t) // 2

        yield case("body-bit", "mismatch", lambda s, t, d: prefix + t)
        yield case("signature-bit", "mismatch", resigned(lambda s, d: s[:-1] + bytes([s[-1] ^ 1])))
        yield case("wrong-secret", "mismatch", resigned(lambda s, d: mac(b"test-other-secret", d, hash)))
        yield case("empty-secret", "mismatch", resigned(lambda s, d: mac(b"", d, hash)))
        yield case("plain-digest", "mismatch", resigned(lambda s, d: hashlib.new(hash.lower(), d).digest()))
        yield case("secret-then-body", "mismatch", resigned(lambda s, d: hashlib.new(hash.lower(), secret + d).digest()))
        yield case("all-zero", "mismatch", resigned(lambda s, d: bytes(size)))
        yield case("wrong-hash-resized", "mismatch", resigned(other))
        yield case("wrong-hash", "malformed", resigned(lambda s, d: mac(secret, d, next_hash)))
        yield case("truncated-byte", "malformed", resigned(lambda s, d: s[:-1]))
        yield case("extra-byte", "malformed", resigned(lambda s, d: s + b"\0"))
        yield case("empty", "malformed", lambda s, t, d: "")
        yield case("embedded-newline", "malformed", lambda s, t, d: prefix + t[: half(t)] + "\r\n" + t[half(t) :])
        yield case("trailing-newline", "malformed", lambda s, t, d: prefix + t + "\n")
        yield case("joined-twice", "malformed", lambda s, t, d: prefix + t + "," + prefix + t)
        yield case("wrong-prefix", "malformed", lambda s, t, d: next_hash.lower() + "=" + t)
        if encoding == "hex":
            yield case("missing-prefix", "malformed", lambda s, t, d: t)
            yield case("double-prefix", "malformed", lambda s, t, d: prefix + prefix + t)
            yield case("prefix-only", "malformed", lambda s, t, d: prefix)
            yield case("truncated-digit", "malformed", lambda s, t, d: prefix + t[:-1])
            yield case("extra-digit", "malformed", lambda s, t, d: prefix + t + "0")
            yield case("bad-character", "malformed", lambda s, t, d: prefix + t[:-1] + "g")
            yield case("wrong-encoding", "malformed", lambda s, t, d: prefix + b64(s))
        else:
            yield case("bad-character", "malformed", lambda s, t, d: t[:4] + "!" + t[5:])
            yield case("wrong-encoding", "malformed", lambda s, t, d: s.hex())
            yield case(
                "url-alphabet",
                "malformed",
                lambda s, t, d: t.replace("+", "-").replace("/", "_"),
                needs=lambda t: "+" in t or "/" in t,
            )
            if size % 3:
                yield case("missing-padding", "malformed", lambda s, t, d: t.rstrip("="))
                yield case("trailing-bits", "malformed", lambda s, t, d: trailing_bits(t))
            yield case("extra-padding", "malformed", lambda s, t, d: t + "====")


def trailing_bits(text):
    """Sets the lowest unused bit of the last base64 digit."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    end = len(text.rstrip("=")) - 1
    return text[:end] + digits[digits.index(text[end]) | 1] + text[end + 1 :]


write(ROOT / "vectors" / "hmac-python.json", good())
write(ROOT / "vectors" / "hmac-tampered.json", tampered())
