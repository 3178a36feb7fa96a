"""Writes published known answers, each checked first.

HMAC answers are compared with Python's hmac module. DSA answers are verified
with the modular arithmetic of FIPS 186-4, section 4.7. A published answer that
does not hold stops the script.

Usage: published.py TESTDATA
"""

import hashlib
import hmac
import pathlib
import sys

from cases import HASHES, b64, write

ROOT = pathlib.Path(sys.argv[1])

# Name, hash, prefix, secret, body, published hex digits.
WEBHOOKS = [
    (
        "github-docs", "SHA256", "sha256=", b"It's a Secret to Everybody", b"Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    ),
    (
        "go-github", "SHA1", "sha1=", b"0123456789abcdef", b'{"yo":true}',
        "126f2c800419c60137ce748d7672e77b65cf16d6",
    ),
    (
        "octokit", "SHA1", "sha1=", b"mysecret", b'{"foo":"bar"}',
        "d03207e4b030cf234e3447bac4d93add4c6643d8",
    ),
    (
        "octokit", "SHA256", "sha256=", b"mysecret", b'{"foo":"bar"}',
        "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
    ),
    (
        "optimizely", "SHA1", "sha1=", b"yIRFMTpsBcAKKRjJPCIykNo6EkNxJn_nq01-_r3S8i4",
        b'{"timestamp": 1558138293, "project_id": 11387641093, "data": {"cdn_url": '
        b'"https://cdn.optimizely.com/datafiles/QMVJcUKEJZFg8pQ2jhAybK.json", '
        b'"environment": "Production", "origin_url": '
        b'"https://optimizely.s3.amazonaws.com/datafiles/QMVJcUKEJZFg8pQ2jhAybK.json", '
        b'"revision": 13}, "event": "project.datafile_updated"}',
        "b2493723c6ea6973fbda41573222c8ecb1c82666",
    ),
]

COUNTING = bytes(range(1, 26))
LONG_KEY = b"Test Using Larger Than Block-Size Key"

# RFC 2202, section 3: number, key, data, HMAC-SHA-1.
RFC2202 = [
    (1, b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    (2, b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (3, b"\xaa" * 20, b"\xdd" * 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
    (4, COUNTING, b"\xcd" * 50, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
    (5, b"\x0c" * 20, b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
    (6, b"\xaa" * 80, LONG_KEY + b" - Hash Key First", "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
    (
        7, b"\xaa" * 80, LONG_KEY + b" and Larger Than One Block-Size Data",
        "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
    ),
]

# RFC 4231, section 4: number, key, data, HMAC-SHA-224, -256, -384, -512.
# Case 5 publishes truncated values only and is left out.
RFC4231 = [
    (
        1, b"\x0b" * 20, b"Hi There",
        "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
        "faea9ea9076ede7f4af152e8b2fa9cb6",
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
    ),
    (
        2, b"Jefe", b"what do ya want for nothing?",
        "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
        "8e2240ca5e69e2c78b3239ecfab21649",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
    (
        3, b"\xaa" * 20, b"\xdd" * 50,
        "7fb3cb3588c6c1f6ffa9694d7d6ad2649365b0c1f65d69d1ec8333ea",
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b"
        "2a5ab39dc13814b94e3ab6e101a34f27",
        "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
        "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
    ),
    (
        4, COUNTING, b"\xcd" * 50,
        "6c11506874013cac6a2abc1bb382627cec6a90d86efc012de7afec5a",
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e"
        "6801dd23c4a7d679ccf8a386c674cffb",
        "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db"
        "a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
    ),
    (
        6, b"\xaa" * 131, LONG_KEY + b" - Hash Key First",
        "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
        "0c2ef6ab4030fe8296248df163f44952",
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
        "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
    ),
    (
        7, b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than "
        b"block-size data. The key needs to be hashed before being used by the "
        b"HMAC algorithm.",
        "3a854166ac5d9f023f54d517d0b39dbd946770db9c2b95c9f6f565d1",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5"
        "a678cc31e799176d3860e6110c46523e",
        "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
        "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
    ),
]

# RFC 6979, appendices A.2.1 and A.2.2: public keys, then r and s by key,
# message and hash in the order of HASHES.
DSA_KEYS = {
    "dsa1024-160-rfc6979": {
        "p": "86F5CA03DCFEB225063FF830A0C769B9DD9D6153AD91D7CE27F787C43278B447"
             "E6533B86B18BED6E8A48B784A14C252C5BE0DBF60B86D6385BD2F12FB763ED88"
             "73ABFD3F5BA2E0A8C0A59082EAC056935E529DAF7C610467899C77ADEDFC846C"
             "881870B7B19B2B58F9BE0521A17002E3BDD6B86685EE90B3D9A1B02B782B1779",
        "q": "996F967F6C8E388D9E28D01E205FBA957A5698B1",
        "g": "07B0F92546150B62514BB771E2A0C0CE387F03BDA6C56B505209FF25FD3C133D"
             "89BBCD97E904E09114D9A7DEFDEADFC9078EA544D2E401AEECC40BB9FBBF78FD"
             "87995A10A1C27CB7789B594BA7EFB5C4326A9FE59A070E136DB77175464ADCA4"
             "17BE5DCE2F40D10A46A3A3943F26AB7FD9C0398FF8C76EE0A56826A8A88F1DBD",
        "y": "5DF5E01DED31D0297E274E1691C192FE5868FEF9E19A84776454B100CF16F653"
             "92195A38B90523E2542EE61871C0440CB87C322FC4B4D2EC5E1E7EC766E1BE8D"
             "4CE935437DC11C3C8FD426338933EBFE739CB3465F4D3668C5E473508253B1E6"
             "82F65CBDC4FAE93C2EA212390E54905A86E2223170B44EAA7DA5DD9FFCFB7F3B",
    },
    "dsa2048-256-rfc6979": {
        "p": "9DB6FB5951B66BB6FE1E140F1D2CE5502374161FD6538DF1648218642F0B5C48"
             "C8F7A41AADFA187324B87674FA1822B00F1ECF8136943D7C55757264E5A1A44F"
             "FE012E9936E00C1D3E9310B01C7D179805D3058B2A9F4BB6F9716BFE6117C6B5"
             "B3CC4D9BE341104AD4A80AD6C94E005F4B993E14F091EB51743BF33050C38DE2"
             "35567E1B34C3D6A5C0CEAA1A0F368213C3D19843D0B4B09DCB9FC72D39C8DE41"
             "F1BF14D4BB4563CA28371621CAD3324B6A2D392145BEBFAC748805236F5CA2FE"
             "92B871CD8F9C36D3292B5509CA8CAA77A2ADFC7BFD77DDA6F71125A7456FEA15"
             "3E433256A2261C6A06ED3693797E7995FAD5AABBCFBE3EDA2741E375404AE25B",
        "q": "F2C3119374CE76C9356990B465374A17F23F9ED35089BD969F61C6DDE9998C1F",
        "g": "5C7FF6B06F8F143FE8288433493E4769C4D988ACE5BE25A0E24809670716C613"
             "D7B0CEE6932F8FAA7C44D2CB24523DA53FBE4F6EC3595892D1AA58C4328A06C4"
             "6A15662E7EAA703A1DECF8BBB2D05DBE2EB956C142A338661D10461C0D135472"
             "085057F3494309FFA73C611F78B32ADBB5740C361C9F35BE90997DB2014E2EF5"
             "AA61782F52ABEB8BD6432C4DD097BC5423B285DAFB60DC364E8161F4A2A35ACA"
             "3A10B1C4D203CC76A470A33AFDCBDD92959859ABD8B56E1725252D78EAC66E71"
             "BA9AE3F1DD2487199874393CD4D832186800654760E1E34C09E4D155179F9EC0"
             "DC4473F996BDCE6EED1CABED8B6F116F7AD9CF505DF0F998E34AB27514B0FFE7",
        "y": "667098C654426C78D7F8201EAC6C203EF030D43605032C2F1FA937E5237DBD94"
             "9F34A0A2564FE126DC8B715C5141802CE0979C8246463C40E6B6BDAA2513FA61"
             "1728716C2E4FD53BC95B89E69949D96512E873B9C8F8DFD499CC312882561ADE"
             "CB31F658E934C0C197F2C4D96B05CBAD67381E7B768891E4DA3843D24D94CDFB"
             "5126E9B8BF21E8358EE0E0A30EF13FD6A664C0DCE3731F7FB49A4845A4FD8254"
             "687972A2D382599C9BAC4E0ED7998193078913032558134976410B89D2C171D1"
             "23AC35FD977219597AA7D15C1A9A428E59194F75C721EBCBCFAE44696A499AFA"
             "74E04299F132026601638CB87AB79190D4A0986315DA8EEC6561C938996BEADF",
    },
}
DSA_SIGNATURES = {
    ("dsa1024-160-rfc6979", "sample"): [
        ("2E1A0C2562B2912CAAF89186FB0F42001585DA55", "29EFB6B0AFF2D7A68EB70CA313022253B9A88DF5"),
        ("4BC3B686AEA70145856814A6F1BB53346F02101E", "410697B92295D994D21EDD2F4ADA85566F6F94C1"),
        ("81F2F5850BE5BC123C43F71A3033E9384611C545", "4CDD914B65EB6C66A8AAAD27299BEE6B035F5E89"),
        ("07F2108557EE0E3921BC1774F1CA9B410B4CE65A", "54DF70456C86FAC10FAB47C1949AB83F2C6F7595"),
        ("16C3491F9B8C3FBBDD5E7A7B667057F0D8EE8E1B", "02C36A127A7B89EDBB72E4FFBC71DABC7D4FC69C"),
    ],
    ("dsa1024-160-rfc6979", "test"): [
        ("42AB2052FD43E123F0607F115052A67DCD9C5C77", "183916B0230D45B9931491D4C6B0BD2FB4AAF088"),
        ("6868E9964E36C1689F6037F91F28D5F2C30610F2", "49CEC3ACDC83018C5BD2674ECAAD35B8CD22940F"),
        ("22518C127299B0F6FDC9872B282B9E70D0790812", "6837EC18F150D55DE95B5E29BE7AF5D01E4FE160"),
        ("854CF929B58D73C3CBFDC421E8D5430CD6DB5E66", "91D0E0F53E22F898D158380676A871A157CDA622"),
        ("8EA47E475BA8AC6F2D821DA3BD212D11A3DEB9A0", "7C670C7AD72B6C050C109E1790008097125433E8"),
    ],
    ("dsa2048-256-rfc6979", "sample"): [
        ("3A1B2DBD7489D6ED7E608FD036C83AF396E290DBD602408E8677DAABD6E7445A",
         "D26FCBA19FA3E3058FFC02CA1596CDBB6E0D20CB37B06054F7E36DED0CDBBCCF"),
        ("DC9F4DEADA8D8FF588E98FED0AB690FFCE858DC8C79376450EB6B76C24537E2C",
         "A65A9C3BC7BABE286B195D5DA68616DA8D47FA0097F36DD19F517327DC848CEC"),
        ("EACE8BDBBE353C432A795D9EC556C6D021F7A03F42C36E9BC87E4AC7932CC809",
         "7081E175455F9247B812B74583E9E94F9EA79BD640DC962533B0680793A38D53"),
        ("B2DA945E91858834FD9BF616EBAC151EDBC4B45D27D0DD4A7F6A22739F45C00B",
         "19048B63D9FD6BCA1D9BAE3664E1BCB97F7276C306130969F63F38FA8319021B"),
        ("2016ED092DC5FB669B8EFB3D1F31A91EECB199879BE0CF78F02BA062CB4C942E",
         "D0C76F84B5F091E141572A639A4FB8C230807EEA7D55C8A154A224400AFF2351"),
    ],
    ("dsa2048-256-rfc6979", "test"): [
        ("C18270A93CFC6063F57A4DFA86024F700D980E4CF4E2CB65A504397273D98EA0",
         "414F22E5F31A8B6D33295C7539C1C1BA3A6160D7D68D50AC0D3A5BEAC2884FAA"),
        ("272ABA31572F6CC55E30BF616B7A265312018DD325BE031BE0CC82AA17870EA3",
         "E9CC286A52CCE201586722D36D1E917EB96A4EBDB47932F9576AC645B3A60806"),
        ("8190012A1969F9957D56FCCAAD223186F423398D58EF5B3CEFD5A4146A4476F0",
         "7452A53F7075D417B4B013B278D1BB8BBD21863F5E7B1CEE679CF2188E1AB19E"),
        ("239E66DDBE8F8C230A3D071D601B6FFBDFB5901F94D444C6AF56F732BEB954BE",
         "6BD737513D5E72FE85D1C750E0F73921FE299B945AAD1C802F15C26A43D34961"),
        ("89EC4BB1400ECCFF8E7D9AA515CD1DE7803F2DAFF09693EE7FD1353E90A68307",
         "C9F0BDABCC0D880BB137A994CC7F3980CE91CC10FAF529FC46565B15CEA854E1"),
    ],
}


def hmac_case(name, hash, prefix, secret, body, digits):
    if hmac.new(secret, body, hash.lower()).hexdigest() != digits:
        sys.exit(f"{name}: the published value does not hold")
    return {
        "name": name,
        "source": "published",
        "kind": "hmac",
        "hash": hash,
        "encoding": "hex",
        "prefix": prefix,
        "secret": b64(secret),
        "body64": b64(body),
        "value": prefix + digits,
        "want": "ok",
    }


def hmac_cases():
    for origin, hash, *rest in WEBHOOKS:
        yield hmac_case(f"hmac-published-{origin}-{hash.lower()}", hash, *rest)
    for number, key, data, digits in RFC2202:
        yield hmac_case(f"hmac-published-rfc2202-{number}", "SHA1", "", key, data, digits)
    for number, key, data, *answers in RFC4231:
        for hash, digits in zip(HASHES[1:], answers):
            yield hmac_case(f"hmac-published-rfc4231-{number}-{hash.lower()}", hash, "", key, data, digits)


def tlv(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        head = bytes([size])
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        head = bytes([128 + len(digits)]) + digits
    return bytes([tag]) + head + content


def integer(n):
    return tlv(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big"))


def write_key(name, k):
    oid = bytes.fromhex("06072a8648ce380401")  # 1.2.840.10040.4.1, id-dsa
    algorithm = tlv(0x30, oid, tlv(0x30, integer(k["p"]), integer(k["q"]), integer(k["g"])))
    text = b64(tlv(0x30, algorithm, tlv(0x03, b"\0", integer(k["y"]))))
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    pem = ["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]
    (ROOT / "keys" / f"{name}.pem").write_text("\n".join(pem))


def verifies(k, message, hash, r, s):
    digest = hashlib.new(hash.lower(), message).digest()
    z = int.from_bytes(digest[: k["q"].bit_length() // 8], "big")
    w = pow(s, -1, k["q"])
    v = pow(k["g"], z * w % k["q"], k["p"]) * pow(k["y"], r * w % k["q"], k["p"]) % k["p"]
    return v % k["q"] == r


def dsa_cases():
    keys = {name: {part: int(n, 16) for part, n in k.items()} for name, k in DSA_KEYS.items()}
    for name, k in keys.items():
        write_key(name, k)
    for (key, message), answers in DSA_SIGNATURES.items():
        k = keys[key]
        size = k["q"].bit_length() // 8
        for hash, answer in zip(HASHES, answers):
            r, s = (int(n, 16) for n in answer)
            if not verifies(k, message.encode(), hash, r, s):
                sys.exit(f"{key} {message} {hash}: the published value does not hold")
            der = tlv(0x30, integer(r), integer(s))
            p1363 = r.to_bytes(size, "big") + s.to_bytes(size, "big")
            for format, encoding, value in [("der", "base64", b64(der)), ("p1363", "hex", p1363.hex())]:
                yield {
                    "name": f"dsa-published-{key[3:]}-{hash.lower()}-{format}-{message}",
                    "source": "published",
                    "kind": "dsa",
                    "hash": hash,
                    "encoding": encoding,
                    "format": format,
                    "key": key,
                    "body64": b64(message.encode()),
                    "value": value,
                    "want": "ok",
                }


write(ROOT / "vectors" / "hmac-published.json", hmac_cases())
write(ROOT / "vectors" / "dsa-published.json", dsa_cases())
