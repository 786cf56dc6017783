"""Keys, key set, certificates, access tokens and the service's body, fresh for each run.

    python mint.py FOLDER [--tokens 20000]

Nothing here is a secret worth keeping: it is made anew each time and dropped at the end.
"""
import argparse
import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER, AUDIENCE = "https://issuer.bench.test", "https://api.bench.test"
SCOPE = "orders:read profile:read"
SERVICE_NAME, EDGE_NAME, GATEWAY_NAME = "service.bench.test", "edge.bench.test", "gateway.bench.test"
LIFETIME = 24 * 3600
FEW, SOME, BAD = 500, 10_000, 2_000
BODY_BYTES = 1024


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


class Signer:
    """One key of the issuer."""

    def __init__(self, algorithm, key_id, key=None):
        self.algorithm, self.key_id = algorithm, key_id
        self.key = key or {
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()

    @classmethod
    def load(cls, algorithm, key_id, path):
        with open(path, "rb") as file:
            return cls(algorithm, key_id, serialization.load_pem_private_key(file.read(), None))

    def sign(self, data):
        if self.algorithm == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return self.key.sign(data)

    def jwk(self):
        public = self.key.public_key()
        jwk = {"kid": self.key_id, "use": "sig", "alg": self.algorithm}
        if self.algorithm == "RS256":
            n = public.public_numbers()
            return jwk | {"kty": "RSA", "n": b64(n.n.to_bytes(256, "big")), "e": b64(n.e.to_bytes(3, "big"))}
        if self.algorithm == "ES256":
            n = public.public_numbers()
            x, y = n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big")
            return jwk | {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return jwk | {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}

    def public_pem(self):
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def private_pem(self):
        return private_pem(self.key)

    def token(self, claims):
        header = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.key_id}
        signed = b64(compact(header)) + "." + b64(compact(claims))
        return signed + "." + b64(self.sign(signed.encode()))


def claims(number, now, **changed):
    """An access token's claims (RFC 9068), with some changed or, where None, left out."""
    all_claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": f"user-{number:08d}",
        "client_id": f"client-{number % 97:04d}", "scope": SCOPE, "iat": now, "exp": now + LIFETIME,
        "jti": f"{number:08x}-{(number * 2654435761) % 2**32:08x}-bench",
    } | changed
    return {name: value for name, value in all_claims.items() if value is not None}


def damage(token):
    """The token with one bit of its signature changed, in the middle: the last may be unused."""
    signed, signature = token.rsplit(".", 1)
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[len(raw) // 2] ^= 1
    return signed + "." + b64(bytes(raw))


def write(folder, name, content):
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


# ---------------------------------------------------------------- certificates
def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificates(folder):
    """ca.crt, and of it: service (its server), edge (towards callers), gateway (its client)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench authority")])
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    def certificate(common_name, key, usages):
        is_authority = key is authority_key
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(authority_name if is_authority else name).issuer_name(authority_name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=3))
            .add_extension(x509.BasicConstraints(is_authority, None), True)
            .add_extension(x509.KeyUsage(not is_authority, False, False, False, False, is_authority,
                                         is_authority, False, False), True)
        )
        if is_authority:
            builder = builder.add_extension(authority_id, False)
        else:
            loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            names = [x509.DNSName(common_name), x509.DNSName("localhost"), loopback]
            issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id)
            builder = (builder.add_extension(x509.ExtendedKeyUsage(usages), False)
                       .add_extension(x509.SubjectAlternativeName(names), False)
                       .add_extension(issuer_id, False))
        made = builder.sign(authority_key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    write(folder, "ca.crt", certificate("bench authority", authority_key, []))
    for file, name, usage in (
        ("service", SERVICE_NAME, ExtendedKeyUsageOID.SERVER_AUTH),
        ("edge", EDGE_NAME, ExtendedKeyUsageOID.SERVER_AUTH),
        ("gateway", GATEWAY_NAME, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        chain, private = certificate(name, key, [usage]), private_pem(key)
        write(folder, f"{file}.crt", chain)
        write(folder, f"{file}.key", private)
        write(folder, f"{file}.pem", chain + private)


# ---------------------------------------------------------------- tokens
def cases(signers, now):
    """One token for each thing that a gateway has to notice. The names are check.py's."""
    rs256, es256, eddsa = signers["RS256"], signers["ES256"], signers["EdDSA"]
    stranger = Signer("RS256", rs256.key_id)
    good = claims(1, now)

    def made_by_hand(header, signature=lambda signed: b""):
        signed = b64(compact({"typ": "at+jwt"} | header)) + "." + b64(compact(good))
        return signed + "." + b64(signature(signed.encode()))

    def with_public_key(signed):
        return hmac.new(rs256.public_pem(), signed, hashlib.sha256).digest()

    hs256 = {"alg": "HS256", "kid": rs256.key_id}
    return {
        "valid RS256": rs256.token(claims(7, now)),
        "valid ES256": es256.token(claims(8, now)),
        "valid EdDSA": eddsa.token(claims(9, now)),
        "audience in a list": rs256.token(claims(7, now, aud=["https://other.test", AUDIENCE])),
        "expired": rs256.token(claims(1, now, iat=now - 7200, exp=now - 3600)),
        "no expiry": rs256.token(claims(1, now, exp=None)),
        "not yet valid": rs256.token(claims(1, now, nbf=now + 3600)),
        "wrong issuer": rs256.token(claims(1, now, iss="https://evil.test")),
        "wrong audience": rs256.token(claims(1, now, aud="https://other.test")),
        "no audience": rs256.token(claims(1, now, aud=None)),
        "bad signature RS256": damage(rs256.token(good)),
        "bad signature ES256": damage(es256.token(good)),
        "bad signature EdDSA": damage(eddsa.token(good)),
        "another key under the same id": stranger.token(good),
        "algorithm none": made_by_hand({"alg": "none"}),
        "HS256 with the public key": made_by_hand(hs256, with_public_key),
        "garbage": "not.a.jwt",
        "no scope": rs256.token(claims(1, now, scope=None)),
        "another scope": rs256.token(claims(1, now, scope="profile:read")),
        "scopes that look like it": rs256.token(claims(1, now, scope="orders:readonly x-orders:read")),
    }


def body():
    """About one KiB of JSON. Without quotes or dollars, which nginx would want escaped."""
    items = [{"order": i, "sku": f"SKU-{i:06d}", "qty": i % 9, "state": "open"} for i in range(17)]
    text = json.dumps({"items": items})
    return text[:-1] + ', "pad": "' + "x" * max(0, BODY_BYTES - len(text) - 11) + '"}'


def mint(folder, count):
    """Writes everything into `folder`; returns what a report says about it."""
    os.makedirs(folder, exist_ok=True)
    now = int(time.time())
    signers = {name: Signer(name, key_id) for name, key_id in
               (("RS256", "rs-1"), ("ES256", "es-1"), ("EdDSA", "ed-1"))}
    write(folder, "jwks.json", compact({"keys": [s.jwk() for s in signers.values()]}))
    write(folder, "jwks-rsa-ec.json", compact({"keys": [signers[a].jwk() for a in ("RS256", "ES256")]}))
    certificates(folder)
    sizes = {}
    for algorithm, signer in signers.items():
        name = algorithm.lower()
        write(folder, f"{name}.pub", signer.public_pem())
        write(folder, f"{name}.key", signer.private_pem())
        tokens = [signer.token(claims(i, now)) for i in range(count)]
        for kind, part in (("one", tokens[:1]), ("500", tokens[:FEW]), ("10000", tokens[:SOME]),
                           ("new", tokens), ("bad", [damage(t) for t in tokens[:BAD]])):
            write(folder, f"{name}.{kind}", "\n".join(part) + "\n")
        sizes[algorithm] = len(tokens[0])
    write(folder, "cases.json", compact(cases(signers, now)))
    text = body()
    write(folder, "body.json", text)
    return {"tokens": count, "token_bytes": sizes, "body_bytes": len(text)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--tokens", type=int, default=20_000)
    arguments = parser.parse_args()
    os.umask(0o077)
    print(json.dumps(mint(arguments.folder, arguments.tokens)))
