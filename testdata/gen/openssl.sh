#!/bin/bash
# Signs the bodies with the openssl command line.
# Usage: openssl.sh TESTDATA
# Private keys live in a temporary directory that is removed at the end.
set -euo pipefail

root=$1
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

hashes="SHA1 SHA224 SHA256 SHA384 SHA512"
bodies="empty.bin ascii.txt emoji.txt crlf.txt nuls.bin escapes.json 64k.bin"

lower() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; }
encode() { # encode ENCODING <BYTES
	if [ "$1" = hex ]; then od -An -v -tx1 | tr -d ' \n'; else openssl base64 -A; fi
}
# NUL and 0xFF bodies are signed in hex, all others in base64.
encoding_for() { if [ "$1" = nuls.bin ]; then echo hex; else echo base64; fi; }
# write FILE <LINES makes a JSON array of one object per line.
write() { { echo '['; sed '$!s/$/,/'; echo ']'; } >"$root/vectors/$1"; }

sign_all() { # sign_all KIND KEY
	local kind=$1 key=$2 hash body encoding size format=''
	size=${key#"$kind"}
	size=${size%-openssl}
	if [ "$kind" = dsa ]; then format='"format":"der",'; fi
	openssl pkey -in "$tmp/$key" -pubout -out "$root/keys/$key.pem"
	for hash in $hashes; do
		for body in $bodies; do
			encoding=$(encoding_for "$body")
			openssl dgst "-$(lower "$hash")" -sign "$tmp/$key" -out "$tmp/sig" "$root/bodies/$body"
			printf '{"name":"%s-%s-%s","source":"openssl3","kind":"%s","hash":"%s","encoding":"%s",%s"key":"%s","body":"%s","value":"%s","want":"ok"}\n' \
				"$kind-openssl-$size" "$(lower "$hash")" "${body%.*}" "$kind" "$hash" "$encoding" \
				"$format" "$key" "$body" "$(encode "$encoding" <"$tmp/sig")"
		done
	done
}

rsa() {
	local bits
	for bits in 2048 3072 4096; do
		openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:$bits" -out "$tmp/rsa$bits-openssl"
		sign_all rsa "rsa$bits-openssl"
	done
}

dsa() {
	local size
	for size in 1024-160 2048-224 2048-256 3072-256; do
		openssl genpkey -quiet -genparam -algorithm DSA -pkeyopt "dsa_paramgen_bits:${size%-*}" \
			-pkeyopt "dsa_paramgen_q_bits:${size#*-}" -out "$tmp/params"
		openssl genpkey -quiet -paramfile "$tmp/params" -out "$tmp/dsa$size-openssl"
		sign_all dsa "dsa$size-openssl"
	done
}

mac_all() { # mac_all SECRETNAME ENCODING
	local hash body prefix digits secret
	digits=$(sed -n "s/^$1 //p" "$here/secrets.txt")
	secret=$(printf "$(printf '%s' "$digits" | sed 's/../\\x&/g')" | openssl base64 -A)
	for hash in $hashes; do
		for body in $bodies; do
			prefix=''
			if [ "$2" = hex ]; then prefix="$(lower "$hash")="; fi
			openssl mac -digest "$hash" -macopt "hexkey:$digits" -binary -in "$root/bodies/$body" -out "$tmp/mac" HMAC
			printf '{"name":"hmac-openssl-%s-%s-%s-%s","source":"openssl3","kind":"hmac","hash":"%s","encoding":"%s",%s"secret":"%s","body":"%s","value":"%s","want":"ok"}\n' \
				"$(lower "$hash")" "$2" "$1" "${body%.*}" "$hash" "$2" "${prefix:+\"prefix\":\"$prefix\",}" \
				"$secret" "$body" "$prefix$(encode "$2" <"$tmp/mac")"
		done
	done
}

{ mac_all bytes64 hex; mac_all one base64; } | write hmac-openssl.json
rsa | write rsa-openssl.json
dsa | write dsa-openssl.json
