"""BIP-340 keys against the official vectors; sealed secrets; key files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hive_kit.errors import InvalidParamsError, SecretError, StorageError
from hive_kit.files import create_private_file, make_private_directory, read_key_file, write_key_file
from hive_kit.keys import SchnorrKey, public_from_text, to_npub, verify
from hive_kit.sealed import Seal
from hypothesis import given, settings
from hypothesis import strategies as st

# BIP-340 test-vectors.csv: index, public key, message, signature, whether it is valid.
VECTORS = [
    (
        0,
        "F9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA821525F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
        True,
    ),
    (
        1,
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE33418906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A",
        True,
    ),
    (  # public key not on the curve
        5,
        "EEFDEA4CDB677750A420FEE807EACF21EB9898AE79B9768766E4FAA04A2D4A34",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6CFF5C3BA86C69EA4B7376F31A9BCB4F74C1976089B2D9963DA2E5543E17776969E89B4C5564D00349106B8497785DD7D1D713A8AE82B32FA79D5F7FC407D39B",
        False,
    ),
    (  # has_even_y(R) is false
        6,
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "FFF97BD5755EEEA420453A14355235D382F6472F8568A18B2F057A14602975563CC27944640AC607CD107AE10923D9EF7A73C643E166BE5EBEAFA34B1AC553E2",
        False,
    ),
]
# The example of NIP-19.
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
NSEC_HEX = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"
NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
NPUB_HEX = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.parametrize(("index", "public", "message", "signature", "valid"), VECTORS)
def test_official_vectors(index: int, public: str, message: str, signature: str, valid: bool) -> None:
    assert verify(public, bytes.fromhex(message), signature) is valid


@pytest.mark.parametrize("secret", ["1", "3", "B7E151628AED2A6ABF7158809CF4F3C762E7160F38B4DA56A784D9045190CFEF"])
def test_signatures_verify_and_a_changed_message_does_not(secret: str) -> None:
    key = SchnorrKey(bytes.fromhex(secret.rjust(64, "0")))
    signature = key.sign(b"\x07" * 32)
    assert verify(key.public_hex, b"\x07" * 32, signature)
    assert not verify(key.public_hex, b"\x08" * 32, signature)
    with pytest.raises(ValueError, match="signs 32 bytes, not 5"):
        key.sign(b"short")


@settings(max_examples=25)
@given(st.integers(1, ORDER - 1))
def test_a_key_and_its_negative_are_one_identity_with_even_y(number: int) -> None:
    key, negative = SchnorrKey(number.to_bytes(32, "big")), SchnorrKey((ORDER - number).to_bytes(32, "big"))
    assert key.public_hex == negative.public_hex
    assert key.secret_hex == negative.secret_hex
    assert verify(key.public_hex, bytes(32), key.sign(bytes(32)))


def test_bech32_spellings() -> None:
    assert SchnorrKey.from_text(NSEC).public_hex == SchnorrKey.from_text(NSEC_HEX.upper()).public_hex
    key = SchnorrKey.generate()
    assert SchnorrKey.from_text(key.nsec).secret_hex == key.secret_hex
    assert public_from_text(key.npub) == key.public_hex
    assert public_from_text(NPUB) == NPUB_HEX
    assert to_npub(NPUB_HEX) == NPUB


@pytest.mark.parametrize("text", ["", "hello", NSEC[:-1] + "q", NPUB, NSEC_HEX[:-1], "0x" + NSEC_HEX])
def test_what_is_no_secret_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidParamsError) as refused:
        SchnorrKey.from_text(text)
    assert refused.value.message == "invalid nsec format: give nsec1... or 64 hex digits"


@pytest.mark.parametrize("number", [0, ORDER, 2**256 - 1])
def test_out_of_range_keys_are_refused(number: int) -> None:
    with pytest.raises(InvalidParamsError, match="private key is out of the secp256k1 range"):
        SchnorrKey.from_text(number.to_bytes(32, "big").hex())


def test_public_keys_are_checked() -> None:
    with pytest.raises(InvalidParamsError, match="is not on the secp256k1 curve"):
        public_from_text(VECTORS[2][1])
    with pytest.raises(InvalidParamsError, match="invalid npub format"):
        public_from_text(NSEC)
    assert not verify("zz", bytes(32), "00")
    assert not verify(NPUB_HEX, bytes(32), "00" * 63)


def test_the_secret_is_not_in_the_repr() -> None:
    key = SchnorrKey.generate()
    assert key.secret_hex not in repr(key)
    assert key.public_hex in repr(key)


def test_sealed_text_opens_only_with_its_key(tmp_path: Path) -> None:
    seal = Seal.create(tmp_path / "key")
    sealed = seal.seal("a secret")
    assert "secret" not in sealed
    assert sealed != seal.seal("a secret")
    assert Seal.open(tmp_path / "key").unseal(sealed) == "a secret"
    other = Seal.create(tmp_path / "other")
    for doubtful in (sealed[:-8] + "AAAAAAA=", sealed[8:], "not base64!", "a secret", ""):
        with pytest.raises(SecretError, match="does not open with"):
            seal.unseal(doubtful)
    with pytest.raises(SecretError, match=r"does not open with .*/other; restore both from one backup set"):
        other.unseal(sealed)


def test_a_key_file_is_complete_and_private_from_the_start(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Seal.create(tmp_path / "key")
    finally:
        os.umask(before)
    status = (tmp_path / "key").stat()
    assert stat.S_IMODE(status.st_mode) == 0o400
    assert (status.st_size, status.st_nlink) == (32, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"], "nothing partial is left"


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key", b"first")
    with pytest.raises(SecretError, match="exists already; it is never overwritten"):
        write_key_file(tmp_path / "key", b"second")
    assert read_key_file(tmp_path / "key") == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_missing_exposed_or_short_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(SecretError, match="key is missing; restore it from the newest backup set"):
        Seal.open(path)
    write_key_file(path, b"short")
    with pytest.raises(SecretError, match="has 5 bytes instead of 32"):
        Seal.open(path)
    path.chmod(0o440)
    with pytest.raises(SecretError, match="has mode 0440, so others may have read it; set it to 0400"):
        Seal.open(path)


def test_directories_and_files_that_cannot_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file is not a directory"):
        make_private_directory(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot make the directory"):
        make_private_directory(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"cannot make .*x: .*; check the directory and the disk"):
        create_private_file(tmp_path / "none" / "x")
    assert create_private_file(tmp_path / "x")
    assert not create_private_file(tmp_path / "x")
