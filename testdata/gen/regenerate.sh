#!/bin/bash
# Makes bodies, keys and vectors anew. The keys are new each time, and so are
# all RSA and DSA signatures. Needs python3, java 17 and openssl 3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

mkdir -p "$root/bodies" "$root/keys" "$root/vectors"
rm -f "$root"/bodies/* "$root"/keys/*.pem "$root"/vectors/*.json
python3 -B "$here/bodies.py" "$root/bodies"
python3 -B "$here/hmac_vectors.py" "$root"
python3 -B "$here/published.py" "$root"
bash "$here/openssl.sh" "$root"
java "$here/Vectors.java" "$root"
