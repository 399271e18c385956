"""Signatures over bytes: OpenSSF model signing with a key, as its own tool writes and reads it, and signed statements.

A bundle is JSON: a DSSE envelope around an in-toto statement that lists every file with its SHA-256. It is made and
verified with `cryptography` alone (`pip install 'tarmac[signing]'`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, Refused, bounded

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
LARGEST_BUNDLE = 32 * 1024 * 1024
PIECE = 1024 * 1024


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise Invalid("signatures need the library `cryptography`", hint="pip install 'tarmac[signing]'") from None
    return serialization


def public_key(pem: str) -> Any:
    """An elliptic-curve key, the only kind that OpenSSF model signing takes."""
    serialization = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(
            f"`{bounded(pem, 60)}` is no public key in PEM",
            hint="`openssl ec -in KEY.pem -pubout -out KEY.pub` writes one",
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise Invalid(
            "the key is not of one of the curves P-256, P-384 and P-521",
            hint="`openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem` makes one",
        )
    return key


def private_key(pem: bytes, password: bytes | None = None) -> Any:
    serialization = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError:
        raise Invalid("the private key has a password, or none was expected", hint="--password-file FILE") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(
            "this is no private key in PEM, or the password is wrong",
            hint="`openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem` makes one",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise Invalid("the key is not of one of the curves P-256, P-384 and P-521")
    return key


def pem_of(key: Any) -> str:
    """The public half, as OpenSSL writes it."""
    serialization = _cryptography()
    public = key.public_key() if hasattr(key, "public_key") else key
    written: bytes = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return written.decode()


def fingerprint(key: Any) -> str:
    """What a signature says of its key: the SHA-256 of the public half."""
    return hashlib.sha256(pem_of(key).encode()).hexdigest()


# --- envelopes ---


def envelope(key: Any, kind: str, payload: bytes) -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric import ec

    signed = key.sign(_pae(kind, payload), ec.ECDSA(_hash_of(key)))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
    }


def opened(found: Any, kind: str, key: Any) -> bytes:
    """The payload of an envelope that was signed with exactly this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        payload, signatures = base64.b64decode(found["payload"], validate=True), found["signatures"]
        if found["payloadType"] != kind or len(signatures) != 1:
            raise Refused(f"the signature is not one of a {bounded(kind)}")
        signed = base64.b64decode(signatures[0]["sig"], validate=True)
    except (KeyError, TypeError, IndexError, binascii.Error, ValueError):
        raise Refused("the signature is not a DSSE envelope") from None
    try:
        key.verify(signed, _pae(kind, payload), ec.ECDSA(_hash_of(key)))
    except InvalidSignature:
        raise Refused(f"the signature was not made with key {fingerprint(key)[:16]}, or was changed") from None
    return payload


def _pae(kind: str, payload: bytes) -> bytes:
    """What is signed: DSSE's encoding of type and payload, so that neither can be taken for the other."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def _hash_of(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    return getattr(hashes, CURVES[key.curve.name])()


# --- models ---


def sign(name: str, files: Mapping[str, str], key: Any) -> str:
    """The bundle for files, given as path and SHA-256."""
    ordered = sorted(files.items())
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": whole}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered],
        },
    }
    payload = msgspec.json.encode(statement)
    return msgspec.json.encode(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": fingerprint(key)}, "tlogEntries": []},
            "dsseEnvelope": envelope(key, IN_TOTO, payload),
        }
    ).decode()


def hint(bundle: str) -> str:
    """Which key a bundle says it was made with; what it says is proven by `signed_files` only."""
    if len(bundle) > LARGEST_BUNDLE:
        raise Invalid(f"a signature of {len(bundle):,} bytes; at most {LARGEST_BUNDLE:,} are read")
    try:
        document = msgspec.json.decode(bundle)
        said = document["verificationMaterial"]["publicKey"]["hint"]
        document["dsseEnvelope"]["payload"]
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        raise Invalid(
            "this is no OpenSSF model signature made with a key", hint="`tarmac models sign NAME@vN --key KEY.pem`"
        ) from None
    return bounded(said, 64)


def signed_files(bundle: str, keys: Iterable[Any]) -> tuple[dict[str, str], str]:
    """Path and SHA-256 of each file that a bundle signs, and the fingerprint of the key that proves it."""
    said = hint(bundle)
    for key in keys:
        if fingerprint(key) == said:
            payload = opened(msgspec.json.decode(bundle)["dsseEnvelope"], IN_TOTO, key)
            return _resources(payload), said
    raise Refused(f"signed with key {said[:16]}, which is not one of those that are trusted")


def _resources(payload: bytes) -> dict[str, str]:
    try:
        statement = msgspec.json.decode(payload)
        if statement["_type"] != STATEMENT or statement["predicateType"] != PREDICATE:
            raise Refused("what is signed is not a list of a model's files")
        predicate, subject = statement["predicate"], statement["subject"][0]["digest"]["sha256"]
        if predicate["serialization"]["method"] != "files":
            raise Refused("the signature is over parts of files; tarmac reads those over whole files")
        listed: Sequence[Any] = predicate["resources"]
        if any(entry["algorithm"] != "sha256" for entry in listed):
            raise Refused("the signature lists digests that are not SHA-256")
        found = {str(entry["name"]): str(entry["digest"]) for entry in listed}
        whole = hashlib.sha256(b"".join(bytes.fromhex(entry["digest"]) for entry in listed)).hexdigest()
    except (msgspec.DecodeError, KeyError, TypeError, IndexError, ValueError):
        raise Refused("what is signed is not a list of a model's files") from None
    if whole != subject or len(found) != len(listed):
        raise Refused("the signed list of files contradicts itself")
    return found


def differences(signed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is there and was not signed so, what was signed and is not there."""
    faults = [f"`{bounded(path)}` was changed" for path in sorted(signed.keys() & found.keys())
              if signed[path] != found[path]]  # fmt: skip
    faults += [f"`{bounded(path)}` is not signed" for path in sorted(found.keys() - signed.keys())]
    faults += [f"`{bounded(path)}` is missing" for path in sorted(signed.keys() - found.keys())]
    return faults


def sha256_of_folder(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder; a link that leads out could be changed later, so there may be none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise Refused(f"`{bounded(path)}` is a link: only files can be signed")
        if path.is_file():
            hasher = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while piece := file.read(PIECE):
                    hasher.update(piece)
            found[path.relative_to(folder).as_posix()] = hasher.hexdigest()
    return found
