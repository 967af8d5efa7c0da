"""The interlock's own Ed25519 check: RFC 8032 vectors, malformed and malleable signatures, cross-check with `cryptography`."""

from __future__ import annotations

import hashlib
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from interlock import ed25519

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

# RFC 8032 section 7.1: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def reference(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors_verify(key: str, message: bytes, signature: str) -> None:
    assert reference(bytes.fromhex(key), message, bytes.fromhex(signature)), "the vector itself is mistyped"
    assert ed25519.verify(bytes.fromhex(key), message, bytes.fromhex(signature))
    assert not ed25519.verify(bytes.fromhex(key), message + b"x", bytes.fromhex(signature))


def pair() -> tuple[bytes, bytes, bytes]:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"seed").digest())
    message = b"a prescription"
    return private.public_key().public_bytes_raw(), message, private.sign(message)


def test_every_flipped_bit_of_a_signature_is_found() -> None:
    key, message, signature = pair()
    for bit in range(0, 512, 7):
        spoiled = bytearray(signature)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert not ed25519.verify(key, message, bytes(spoiled)), bit


def test_malleable_scalar_is_refused() -> None:
    key, message, signature = pair()
    s = int.from_bytes(signature[32:], "little")
    for twin in (s + ORDER, s + 2 * ORDER, ORDER, 2**256 - 1, ORDER - s):
        assert not ed25519.verify(key, message, signature[:32] + twin.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33, 63, 65, 128])
def test_wrong_lengths_are_refused(length: int) -> None:
    key, message, signature = pair()
    assert not ed25519.verify(key, message, (signature * 2)[:length])
    assert not ed25519.verify((key * 5)[:length], message, signature)


@pytest.mark.parametrize(
    "key",
    [
        (1).to_bytes(32, "little"),  # the neutral element: every signature of a zero scalar would fit
        (0).to_bytes(32, "little"),  # order 4
        (P - 1).to_bytes(32, "little"),  # order 2
        (P + 1).to_bytes(32, "little"),  # the neutral element, not canonical
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
        (2).to_bytes(32, "little"),  # not on the curve
    ],
)
def test_weak_or_malformed_keys_are_refused(key: bytes) -> None:
    neutral = (1).to_bytes(32, "little") + bytes(32)
    assert not ed25519.verify(key, b"anything", neutral)


def test_agrees_with_cryptography() -> None:
    chance = random.Random(8032)
    for i in range(60):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        key, message = private.public_key().public_bytes_raw(), chance.randbytes(i)
        signature = private.sign(message)
        assert ed25519.verify(key, message, signature)
        spoiled = [bytearray(key), bytearray(signature)]
        which = chance.randrange(2)
        spoiled[which][chance.randrange(len(spoiled[which]))] ^= 1 << chance.randrange(8)
        args = bytes(spoiled[0]), message, bytes(spoiled[1])
        assert ed25519.verify(*args) == reference(*args)
