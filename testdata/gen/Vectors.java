import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.AlgorithmParameterGenerator;
import java.security.GeneralSecurityException;
import java.security.InvalidKeyException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.interfaces.DSAParams;
import java.security.interfaces.DSAPrivateKey;
import java.security.interfaces.DSAPublicKey;
import java.security.interfaces.RSAPrivateKey;
import java.security.spec.DSAGenParameterSpec;
import java.security.spec.DSAParameterSpec;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Predicate;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Signs the bodies with java.security and tampers with the signatures.
 *
 * <p>Usage: java Vectors.java TESTDATA. Private keys never leave this process.
 */
public class Vectors {
    static final String[] HASHES = {"SHA1", "SHA224", "SHA256", "SHA384", "SHA512"};
    static final int[] HASH_BITS = {160, 224, 256, 384, 512};
    static final String[] BODIES = {
        "empty.bin", "ascii.txt", "emoji.txt", "crlf.txt", "nuls.bin", "escapes.json", "64k.bin"
    };
    static final String[] SMALL = {"ascii.txt", "emoji.txt", "crlf.txt", "nuls.bin", "escapes.json"};
    static final SecureRandom RANDOM = new SecureRandom();

    static Path root;

    public static void main(String[] args) throws Exception {
        root = Path.of(args[0]);
        hmac();
        rsa();
        dsa();
    }

    // Cases.

    /** One case; null fields are left out of the JSON. */
    static class Case implements Cloneable {
        String name, kind, hash, encoding, format, prefix, secret, key, body, body64, value, want = "ok", why;
        Integer flipbit;

        Case copy() {
            try {
                return (Case) clone();
            } catch (CloneNotSupportedException e) {
                throw new AssertionError(e);
            }
        }

        byte[] bytes() throws IOException {
            return body != null ? read(body) : Base64.getDecoder().decode(body64);
        }

        String json() {
            StringBuilder b = new StringBuilder("{");
            String[][] fields = {
                {"name", name}, {"source", "java17"}, {"kind", kind}, {"hash", hash}, {"encoding", encoding},
                {"format", format}, {"prefix", prefix}, {"secret", secret}, {"key", key}, {"body", body},
                {"body64", body64}
            };
            for (String[] f : fields) {
                if (f[1] != null) {
                    b.append(quote(f[0])).append(':').append(quote(f[1])).append(',');
                }
            }
            if (flipbit != null) {
                b.append("\"flipbit\":").append(flipbit).append(',');
            }
            b.append("\"value\":").append(quote(value)).append(",\"want\":").append(quote(want));
            if (why != null) {
                b.append(",\"why\":").append(quote(why));
            }
            return b.append('}').toString();
        }
    }

    static String quote(String s) {
        return '"'
                + s.replace("\\", "\\\\").replace("\"", "\\\"").replace("\r", "\\r").replace("\n", "\\n")
                + '"';
    }

    static void write(String file, List<Case> cases) throws IOException {
        StringBuilder b = new StringBuilder("[\n");
        for (int i = 0; i < cases.size(); i++) {
            b.append(cases.get(i).json()).append(i + 1 < cases.size() ? ",\n" : "\n");
        }
        Files.writeString(root.resolve("vectors").resolve(file), b.append("]\n"));
    }

    static void writeKey(String name, PublicKey key) throws IOException {
        String text = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key.getEncoded());
        Files.writeString(
                root.resolve("keys").resolve(name + ".pem"),
                "-----BEGIN PUBLIC KEY-----\n" + text + "\n-----END PUBLIC KEY-----\n");
    }

    static byte[] read(String body) throws IOException {
        return Files.readAllBytes(root.resolve("bodies").resolve(body));
    }

    static String stem(String body) {
        return body.substring(0, body.lastIndexOf('.'));
    }

    static String encode(String encoding, byte[] sig) {
        return encoding.equals("hex") ? HexFormat.of().formatHex(sig) : Base64.getEncoder().encodeToString(sig);
    }

    /** Adds tampered cases to a list, all from one template. */
    static class Tamper {
        final List<Case> out;
        final Case base;

        Tamper(List<Case> out, Case base) {
            this.out = out;
            this.base = base;
        }

        void text(String why, String want, String value) {
            Case c = base.copy();
            c.name += "-" + why;
            c.why = why;
            c.want = want;
            c.value = value;
            out.add(c);
        }

        void mismatch(String why, byte[] sig) {
            text(why, "mismatch", encode(base.encoding, sig));
        }

        void malformed(String why, byte[] sig) {
            text(why, "malformed", encode(base.encoding, sig));
        }

        /** The same tampering over another body. */
        Tamper over(byte[] body) {
            Case c = base.copy();
            c.body = null;
            c.body64 = Base64.getEncoder().encodeToString(body);
            return new Tamper(out, c);
        }

        void bodyBit(byte[] sig, int turn) throws IOException {
            int bits = 8 * base.bytes().length;
            mismatch("body-bit", sig);
            out.get(out.size() - 1).flipbit = new int[] {0, bits / 2, bits - 1}[turn % 3];
        }

        /** The ways to break the text around a good signature. */
        void encodings(byte[] sig) {
            String t = encode(base.encoding, sig);
            int half = t.length() / 2;
            text("empty", "malformed", "");
            text("embedded-newline", "malformed", t.substring(0, half) + "\r\n" + t.substring(half));
            text("trailing-newline", "malformed", t + "\n");
            text("joined-twice", "malformed", t + "," + t);
            malformed("truncated-byte", Arrays.copyOf(sig, sig.length - 1));
            malformed("extra-byte", Arrays.copyOf(sig, sig.length + 1));
            if (base.encoding.equals("hex")) {
                text("bad-character", "malformed", t.substring(0, t.length() - 1) + "g");
                text("truncated-digit", "malformed", t.substring(0, t.length() - 1));
                text("extra-digit", "malformed", t + "0");
                text("wrong-encoding", "malformed", encode("base64", sig));
                return;
            }
            text("bad-character", "malformed", t.substring(0, 4) + "!" + t.substring(5));
            text("wrong-encoding", "malformed", encode("hex", sig));
            if (t.indexOf('+') >= 0 || t.indexOf('/') >= 0) {
                text("url-alphabet", "malformed", t.replace('+', '-').replace('/', '_'));
            }
            int end = t.indexOf('=');
            if (end >= 0) {
                String digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                char last = digits.charAt(digits.indexOf(t.charAt(end - 1)) | 1);
                text("missing-padding", "malformed", t.substring(0, end));
                text("trailing-bits", "malformed", t.substring(0, end - 1) + last + t.substring(end));
            }
        }
    }

    // HMAC.

    static void hmac() throws Exception {
        List<Case> good = new ArrayList<>();
        for (String line : Files.readAllLines(root.resolve("gen").resolve("secrets.txt"))) {
            String[] words = line.split(" ");
            String encoding = words[0].equals("ascii20") ? "base64" : "hex";
            if (!words[0].equals("ascii20") && !words[0].equals("long200")) {
                continue;
            }
            byte[] secret = HexFormat.of().parseHex(words[1]);
            for (String hash : HASHES) {
                for (String body : BODIES) {
                    Mac mac = Mac.getInstance("Hmac" + hash);
                    mac.init(new SecretKeySpec(secret, "Hmac" + hash));
                    Case c = new Case();
                    c.name = String.join("-", "hmac-java", hash.toLowerCase(), encoding, words[0], stem(body));
                    c.kind = "hmac";
                    c.hash = hash;
                    c.encoding = encoding;
                    c.prefix = encoding.equals("hex") ? hash.toLowerCase() + "=" : null;
                    c.secret = Base64.getEncoder().encodeToString(secret);
                    c.body = body;
                    c.value = (c.prefix == null ? "" : c.prefix) + encode(encoding, mac.doFinal(read(body)));
                    good.add(c);
                }
            }
        }
        write("hmac-java.json", good);
    }

    // RSA.

    static byte[] sign(String algorithm, PrivateKey key, byte[] body) throws GeneralSecurityException {
        Signature s = Signature.getInstance(algorithm);
        s.initSign(key);
        s.update(body);
        return s.sign();
    }

    static void rsa() throws Exception {
        List<Case> good = new ArrayList<>();
        List<Case> bad = new ArrayList<>();
        int turn = 0;
        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        for (int bits : new int[] {1024, 2048, 3072, 4096}) {
            generator.initialize(bits);
            KeyPair a = generator.generateKeyPair();
            KeyPair b = generator.generateKeyPair();
            String key = "rsa" + bits + "-java-a";
            writeKey(key, a.getPublic());
            writeKey("rsa" + bits + "-java-b", b.getPublic());
            for (int h = 0; h < HASHES.length; h++) {
                Case base = new Case();
                base.kind = "rsa";
                base.hash = HASHES[h];
                base.encoding = "base64";
                base.key = key;
                String tail = bits + "-" + HASHES[h].toLowerCase();
                for (String body : BODIES) {
                    Case c = base.copy();
                    c.name = "rsa-java-" + tail + "-" + stem(body);
                    c.body = body;
                    c.value = encode(c.encoding, sign(HASHES[h] + "withRSA", a.getPrivate(), read(body)));
                    good.add(c);
                }
                base.name = "rsa-tampered-" + tail;
                base.body = SMALL[turn % SMALL.length];
                tamperRsa(new Tamper(bad, base), h, a, turn++);
            }
        }
        write("rsa-java.json", good);
        write("rsa-tampered-java.json", bad);
    }

    static void tamperRsa(Tamper t, int h, KeyPair a, int turn) throws Exception {
        RSAPrivateKey key = (RSAPrivateKey) a.getPrivate();
        BigInteger n = key.getModulus();
        int k = n.bitLength() / 8;
        String hash = HASHES[h];
        int other = (h + 1) % HASHES.length;
        byte[] body = t.base.bytes();
        byte[] digest = digest(hash, body);
        byte[] info = info(oid(h), NULL, digest);
        byte[] sig = sign(hash + "withRSA", key, body);
        BigInteger sigNumber = new BigInteger(1, sig);
        if (!Arrays.equals(sig, raw(key, padded(1, k, info)))) {
            throw new AssertionError("own padding differs from java.security");
        }

        t.bodyBit(sig, turn);
        byte[] flipped = sig.clone();
        flipped[(turn * 37 + 1) % k] ^= (byte) (1 << turn % 8);
        t.mismatch("signature-bit", flipped);
        Case c = t.base.copy();
        c.key = c.key.replace("-a", "-b");
        new Tamper(t.out, c).mismatch("wrong-key", sig);
        t.mismatch("wrong-hash", sign(HASHES[other] + "withRSA", key, body));
        t.mismatch("wrong-oid", raw(key, padded(1, k, info(oid(other), NULL, digest))));

        Signature pss = Signature.getInstance("RSASSA-PSS");
        String dashed = hash.replace("SHA", "SHA-");
        int salt = Math.min(digest.length, k - digest.length - 2);
        pss.setParameter(new PSSParameterSpec(dashed, "MGF1", new MGF1ParameterSpec(dashed), salt, 1));
        pss.initSign(key);
        pss.update(body);
        t.mismatch("pss", pss.sign());

        t.mismatch("no-null", raw(key, padded(1, k, info(oid(h), new byte[0], digest))));
        t.mismatch("raw-digest", raw(key, padded(1, k, digest)));
        t.mismatch("unpadded-digest", raw(key, fixed(new BigInteger(1, digest), k)));

        // 00 01, eight bytes FF, 00, DigestInfo, garbage to the end.
        byte[] em = new byte[k];
        RANDOM.nextBytes(em);
        byte[] head = padded(1, 11 + info.length, info);
        System.arraycopy(head, 0, em, 0, head.length);
        t.mismatch("short-padding-garbage", raw(key, em));
        // The garbage is the content of the DigestInfo's NULL.
        byte[] stuffed = info;
        for (int size = k; 11 + stuffed.length > k || size == k; size--) {
            byte[] garbage = new byte[size];
            RANDOM.nextBytes(garbage);
            stuffed = info(oid(h), tlv(5, garbage), digest);
        }
        t.mismatch("parameter-garbage", raw(key, padded(1, k, stuffed)));
        t.mismatch("ber-length", raw(key, padded(1, k, longForm(info))));
        em = padded(1, k, info);
        em[2 + (k - info.length - 3) / 2] = (byte) 0xFE;
        t.mismatch("padding-byte", raw(key, em));
        t.mismatch("block-type-0", raw(key, padded(0, k, info)));
        t.mismatch("block-type-2", raw(key, padded(2, k, info)));

        t.mismatch("all-zero", new byte[k]);
        t.mismatch("one", fixed(BigInteger.ONE, k));
        t.mismatch("modulus", fixed(n, k));
        t.mismatch("modulus-minus-1", fixed(n.subtract(BigInteger.ONE), k));
        t.mismatch("negated", fixed(n.subtract(sigNumber), k));
        byte[] ones = new byte[k];
        Arrays.fill(ones, (byte) 0xFF);
        t.mismatch("all-ones", ones);
        // signature + modulus is congruent to the signature; find one that fits.
        for (int i = 0; i < 1000; i++) {
            byte[] numbered = ("delivery " + i).getBytes(StandardCharsets.US_ASCII);
            BigInteger sum = new BigInteger(1, sign(hash + "withRSA", key, numbered)).add(n);
            if (sum.bitLength() <= 8 * k) {
                t.over(numbered).mismatch("plus-modulus", fixed(sum, k));
                break;
            }
        }

        t.encodings(sig);
        byte[] wide = new byte[k + 1];
        System.arraycopy(sig, 0, wide, 1, k);
        t.malformed("leading-zero", wide);
        t.malformed("half", Arrays.copyOf(sig, k / 2));
        t.malformed("doubled", concat(sig, sig));
    }

    static final byte[] NULL = {5, 0};

    static byte[] oid(int h) {
        String[] digits = {
            "2b0e03021a", "608648016503040204", "608648016503040201", "608648016503040202", "608648016503040203"
        };
        return tlv(6, HexFormat.of().parseHex(digits[h]));
    }

    static byte[] info(byte[] oid, byte[] parameters, byte[] digest) {
        return tlv(0x30, tlv(0x30, oid, parameters), tlv(4, digest));
    }

    /** PKCS #1 v1.5 padding to k bytes; block type 2 pads with random bytes. */
    static byte[] padded(int type, int k, byte[] payload) {
        byte[] em = new byte[k];
        int end = k - payload.length - 1;
        for (int i = 2; i < end; i++) {
            em[i] = type == 0 ? 0 : type == 1 ? (byte) 0xFF : (byte) (1 + RANDOM.nextInt(255));
        }
        em[1] = (byte) type;
        System.arraycopy(payload, 0, em, end + 1, payload.length);
        return em;
    }

    static byte[] raw(RSAPrivateKey key, byte[] em) {
        BigInteger n = key.getModulus();
        return fixed(new BigInteger(1, em).modPow(key.getPrivateExponent(), n), n.bitLength() / 8);
    }

    // DSA.

    static void dsa() throws Exception {
        List<Case> good = new ArrayList<>();
        List<Case> bad = new ArrayList<>();
        int turn = 0;
        for (int[] size : new int[][] {{1024, 160}, {2048, 224}, {2048, 256}, {3072, 256}}) {
            KeyPairGenerator generator = dsaGenerator(size[0], size[1]);
            KeyPair a = generator.generateKeyPair();
            KeyPair b = generator.generateKeyPair();
            String key = "dsa" + size[0] + "-" + size[1] + "-java-a";
            writeKey(key, a.getPublic());
            writeKey(key.replace("-a", "-b"), b.getPublic());
            for (int h = 0; h < HASHES.length; h++) {
                for (String format : new String[] {"der", "p1363"}) {
                    Case base = new Case();
                    base.kind = "dsa";
                    base.hash = HASHES[h];
                    base.encoding = "base64";
                    base.format = format;
                    base.key = key;
                    String tail = String.join(
                            "-", "" + size[0], "" + size[1], HASHES[h].toLowerCase(), format);
                    boolean allowed = HASH_BITS[h] >= size[1];
                    for (int i = 0; i < BODIES.length && allowed; i++) {
                        Case c = base.copy();
                        c.name = "dsa-java-" + tail + "-" + stem(BODIES[i]);
                        c.body = BODIES[i];
                        c.encoding = (i + h) % 4 == 3 ? "hex" : "base64";
                        c.value = encode(c.encoding, sign(algorithm(h, format), a.getPrivate(), read(c.body)));
                        good.add(c);
                    }
                    base.name = "dsa-tampered-" + tail;
                    base.body = SMALL[turn % SMALL.length];
                    base.encoding = turn % 3 == 2 ? "hex" : "base64";
                    Tamper t = new Tamper(bad, base);
                    DsaKey own = new DsaKey(a);
                    if (allowed) {
                        tamperDsa(t, h, a, own, turn);
                    } else {
                        if (!refused(algorithm(h, format), a.getPrivate())) {
                            throw new AssertionError("java signs " + base.name);
                        }
                        digestHandling(t, h, own);
                    }
                    turn++;
                }
            }
        }
        write("dsa-java.json", good);
        write("dsa-tampered-java.json", bad);
    }

    static KeyPairGenerator dsaGenerator(int l, int n) throws GeneralSecurityException {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("DSA");
        generator.initialize(l);
        if (new DsaKey(generator.generateKeyPair()).q.bitLength() == n) {
            return generator; // the parameters built into Java
        }
        AlgorithmParameterGenerator parameters = AlgorithmParameterGenerator.getInstance("DSA");
        parameters.init(new DSAGenParameterSpec(l, n));
        generator.initialize(parameters.generateParameters().getParameterSpec(DSAParameterSpec.class));
        return generator;
    }

    static String algorithm(int h, String format) {
        return HASHES[h] + "withDSA" + (format.equals("p1363") ? "inP1363Format" : "");
    }

    static boolean refused(String algorithm, PrivateKey key) throws GeneralSecurityException {
        try {
            sign(algorithm, key, new byte[0]);
            return false;
        } catch (InvalidKeyException e) {
            return true;
        }
    }

    /** DSA arithmetic on numbers, for signatures that java.security does not make. */
    static class DsaKey {
        final BigInteger p, q, g, x, y;
        final int size;

        DsaKey(KeyPair pair) {
            DSAParams params = ((DSAPrivateKey) pair.getPrivate()).getParams();
            p = params.getP();
            q = params.getQ();
            g = params.getG();
            x = ((DSAPrivateKey) pair.getPrivate()).getX();
            y = ((DSAPublicKey) pair.getPublic()).getY();
            size = q.bitLength() / 8;
        }

        BigInteger[] sign(BigInteger z) {
            while (true) {
                BigInteger k = new BigInteger(q.bitLength(), RANDOM);
                if (k.signum() == 0 || k.compareTo(q) >= 0) {
                    continue;
                }
                BigInteger r = g.modPow(k, p).mod(q);
                BigInteger s = k.modInverse(q).multiply(z.add(x.multiply(r))).mod(q);
                if (r.signum() != 0 && s.signum() != 0) {
                    return new BigInteger[] {r, s};
                }
            }
        }

        boolean verifies(BigInteger z, BigInteger[] rs) {
            BigInteger w = rs[1].modInverse(q);
            BigInteger left = g.modPow(z.multiply(w).mod(q), p);
            BigInteger right = y.modPow(rs[0].multiply(w).mod(q), p);
            return left.multiply(right).mod(p).mod(q).equals(rs[0]);
        }

        /** The leftmost bits of the digest, as FIPS 186-4 wants them. */
        BigInteger leftmost(byte[] digest) {
            return new BigInteger(1, Arrays.copyOf(digest, Math.min(digest.length, size)));
        }

        byte[] encode(String format, BigInteger r, BigInteger s) {
            return format.equals("der")
                    ? tlv(0x30, tlv(2, r.toByteArray()), tlv(2, s.toByteArray()))
                    : concat(fixed(r, size), fixed(s, size));
        }

        boolean fits(BigInteger n) {
            return n.bitLength() <= 8 * size;
        }
    }

    /** Signatures that hold only for a verifier that reads the digest wrongly. */
    static void digestHandling(Tamper t, int h, DsaKey key) throws Exception {
        byte[] digest = digest(t.base.hash, t.base.bytes());
        BigInteger whole = new BigInteger(1, digest);
        int n = key.q.bitLength();
        if (HASH_BITS[h] > n) {
            wrongly(t, key, "whole-digest", digest, whole);
            wrongly(t, key, "rightmost-digest", digest, whole.mod(BigInteger.ONE.shiftLeft(n)));
        } else if (HASH_BITS[h] < n) {
            wrongly(t, key, "right-filled-digest", digest, whole.shiftLeft(n - HASH_BITS[h]));
        }
    }

    static void wrongly(Tamper t, DsaKey key, String why, byte[] digest, BigInteger z) {
        BigInteger[] rs = key.sign(z);
        if (!key.verifies(z, rs) || key.verifies(key.leftmost(digest), rs)) {
            throw new AssertionError(why);
        }
        t.mismatch(why, key.encode(t.base.format, rs[0], rs[1]));
    }

    /** Signs until r and s are as wanted. */
    static BigInteger[] search(DsaKey key, byte[] digest, Predicate<BigInteger[]> wanted) {
        for (int i = 0; i < 20000; i++) {
            BigInteger[] rs = key.sign(key.leftmost(digest));
            if (wanted.test(rs)) {
                return rs;
            }
        }
        throw new AssertionError("no signature of the wanted form");
    }

    static void tamperDsa(Tamper t, int h, KeyPair a, DsaKey key, int turn) throws Exception {
        String format = t.base.format;
        boolean der = format.equals("der");
        BigInteger q = key.q, zero = BigInteger.ZERO, one = BigInteger.ONE;
        byte[] body = t.base.bytes();
        byte[] digest = digest(t.base.hash, body);
        byte[] sig = sign(algorithm(h, format), a.getPrivate(), body);
        BigInteger[] rs = der ? parse(sig) : halves(sig);
        BigInteger r = rs[0], s = rs[1];
        if (!Arrays.equals(sig, key.encode(format, r, s)) || !key.verifies(key.leftmost(digest), rs)) {
            throw new AssertionError("own arithmetic differs from java.security");
        }

        t.bodyBit(sig, turn);
        t.mismatch("signature-bit-r", key.encode(format, r.flipBit(turn % (q.bitLength() - 16)), s));
        t.mismatch("signature-bit-s", key.encode(format, r, s.flipBit(turn % (q.bitLength() - 16))));
        Case c = t.base.copy();
        c.key = c.key.replace("-a", "-b");
        new Tamper(t.out, c).mismatch("wrong-key", sig);
        int other = HASH_BITS[(h + 1) % HASHES.length] >= q.bitLength() ? (h + 1) % HASHES.length : HASHES.length - 2;
        t.mismatch("wrong-hash", sign(algorithm(other, format), a.getPrivate(), body));
        digestHandling(t, h, key);

        t.mismatch("r-zero", key.encode(format, zero, s));
        t.mismatch("s-zero", key.encode(format, r, zero));
        t.mismatch("both-zero", key.encode(format, zero, zero));
        t.mismatch("both-one", key.encode(format, one, one));
        t.mismatch("r-is-q", key.encode(format, q, s));
        t.mismatch("s-is-q", key.encode(format, r, q));
        BigInteger[] low = search(key, digest, v -> der || key.fits(v[0].add(q)));
        t.mismatch("r-plus-q", key.encode(format, low[0].add(q), low[1]));
        low = search(key, digest, v -> der || key.fits(v[1].add(q)));
        t.mismatch("s-plus-q", key.encode(format, low[0], low[1].add(q)));
        BigInteger ones = one.shiftLeft(8 * key.size).subtract(one);
        t.mismatch("r-all-ones", key.encode(format, ones, s));
        t.mismatch("s-all-ones", key.encode(format, r, ones));
        t.mismatch("both-all-ones", key.encode(format, ones, ones));
        t.mismatch("swapped", key.encode(format, s, r));
        t.mismatch("s-negated-mod-q", key.encode(format, r, q.subtract(s)));
        t.encodings(sig);
        if (der) {
            tamperDer(t, key, digest, r, s);
        } else {
            t.malformed("missing-s", fixed(r, key.size));
            t.malformed("der-in-p1363", key.encode("der", r, s));
            t.malformed("leading-zeros", concat(fixed(r, key.size + 1), fixed(s, key.size + 1)));
        }
    }

    static void tamperDer(Tamper t, DsaKey key, byte[] digest, BigInteger r, BigInteger s) {
        byte[] ri = tlv(2, r.toByteArray()), si = tlv(2, s.toByteArray());
        byte[] both = concat(ri, si), sig = tlv(0x30, both);

        t.mismatch("r-negative", key.encode("der", r.negate(), s));
        t.mismatch("s-negative", key.encode("der", r, s.negate()));
        t.mismatch("r-minus-q", key.encode("der", r.subtract(key.q), s));
        t.mismatch("s-minus-q", key.encode("der", r, s.subtract(key.q)));
        // r with its top bit set, written without the leading zero byte. The next
        // bit is clear, so that the negative number is minimal DER.
        int top = 8 * key.size - 1;
        BigInteger[] high = search(key, digest, v -> v[0].testBit(top) && !v[0].testBit(top - 1));
        t.mismatch("r-unsigned", tlv(0x30, tlv(2, fixed(high[0], key.size)), tlv(2, high[1].toByteArray())));
        t.mismatch("r-long", key.encode("der", r.add(key.q.shiftLeft(16)), BigInteger.ONE));

        t.malformed("too-long", key.encode("der", r.add(key.q.shiftLeft(64)), s));
        t.malformed("ber-length", longForm(sig));
        t.malformed("ber-length-r", tlv(0x30, longForm(ri), si));
        t.malformed("ber-length-s", tlv(0x30, ri, longForm(si)));
        t.malformed("indefinite-length", concat(new byte[] {0x30, (byte) 0x80}, concat(both, new byte[2])));
        t.malformed("non-minimal-r", tlv(0x30, tlv(2, new byte[1], r.toByteArray()), si));
        t.malformed("non-minimal-s", tlv(0x30, ri, tlv(2, new byte[1], s.toByteArray())));
        t.malformed("empty-integer", tlv(0x30, tlv(2), si));
        t.malformed("third-integer", tlv(0x30, ri, si, tlv(2, new byte[1])));
        t.malformed("trailing-inside", tlv(0x30, ri, si, new byte[2]));
        t.malformed("trailing-outside", concat(sig, new byte[2]));
        t.malformed("wrong-tag-sequence", tlv(0x31, both));
        t.malformed("wrong-tag-r", tlv(0x30, tlv(4, r.toByteArray()), si));
        t.malformed("wrong-tag-s", tlv(0x30, ri, tlv(4, s.toByteArray())));
        t.malformed("missing-s", tlv(0x30, ri));
        t.malformed("empty-sequence", tlv(0x30));
        byte[] length = sig.clone();
        length[1]++;
        t.malformed("length-over", length);
        length = sig.clone();
        length[1]--;
        t.malformed("length-under", length);
        t.malformed("p1363-in-der", key.encode("p1363", r, s));
    }

    static BigInteger[] parse(byte[] der) {
        int r = 4, rs = der[3], s = r + rs + 2;
        return new BigInteger[] {
            new BigInteger(Arrays.copyOfRange(der, r, r + rs)), new BigInteger(Arrays.copyOfRange(der, s, der.length))
        };
    }

    static BigInteger[] halves(byte[] sig) {
        int half = sig.length / 2;
        return new BigInteger[] {
            new BigInteger(1, Arrays.copyOf(sig, half)), new BigInteger(1, Arrays.copyOfRange(sig, half, sig.length))
        };
    }

    // Bytes.

    static byte[] digest(String hash, byte[] body) throws GeneralSecurityException {
        return MessageDigest.getInstance(hash.replace("SHA", "SHA-")).digest(body);
    }

    static byte[] concat(byte[]... parts) {
        int size = 0;
        for (byte[] part : parts) {
            size += part.length;
        }
        byte[] all = new byte[size];
        int at = 0;
        for (byte[] part : parts) {
            System.arraycopy(part, 0, all, at, part.length);
            at += part.length;
        }
        return all;
    }

    static byte[] tlv(int tag, byte[]... parts) {
        byte[] content = concat(parts);
        int n = content.length;
        byte[] head;
        if (n < 128) {
            head = new byte[] {(byte) tag, (byte) n};
        } else if (n < 256) {
            head = new byte[] {(byte) tag, (byte) 0x81, (byte) n};
        } else {
            head = new byte[] {(byte) tag, (byte) 0x82, (byte) (n >> 8), (byte) n};
        }
        return concat(head, content);
    }

    /** Rewrites a one-byte length in the long form that only BER permits. */
    static byte[] longForm(byte[] tlv) {
        return concat(new byte[] {tlv[0], (byte) 0x81}, Arrays.copyOfRange(tlv, 1, tlv.length));
    }

    /** n as an unsigned big-endian number of exactly size bytes. */
    static byte[] fixed(BigInteger n, int size) {
        byte[] digits = n.toByteArray();
        int skip = digits.length > 1 && digits[0] == 0 ? 1 : 0;
        byte[] all = new byte[size];
        System.arraycopy(digits, skip, all, size - (digits.length - skip), digits.length - skip);
        return all;
    }
}
