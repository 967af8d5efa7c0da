"""`eegloop sign` and `eegloop keys` as a clinic and a bedside use them, checked by the daemon's and the interlock's own readers."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from control import keyring, schema
from control.prescription import TrustedKey, lock_key, new_key, parse_trusted, parse_yaml, public_key, unlock_key
from daemon.keys_command import certify_keys, make_key, pair, trust
from daemon.sign_command import fields_text, sign_file, start_code_file
from eegloop.errors import SetupError
from eegloop.layout import Layout
from eegloop.stim import Prescription, PrescriptionError
from interlock.limits import rules
from interlock.signed import read_prescription, read_start_code

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "control" / "examples" / "bifrontal_tdcs.yaml"
WORDS = "correct horse battery"
SITE, ANN = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    folder.mkdir()
    (folder / "words").write_text(WORDS + "\n")
    for name, file in (("Site", "site"), ("Dr. Example", "ann"), ("Dr. Bob", "bob")):
        make_key(name, folder / f"{file}.pem", folder / "words")
    return folder


def site_key(clinic: Path) -> str:
    return str(json.loads((clinic / "site.pub.json").read_text())["key"])


def certified(clinic: Path, *names: str, revoked: tuple[str, ...] = ()) -> Path:
    public, gone = ([clinic / f"{n}.pub.json" for n in group] for group in (names, revoked))
    certify_keys(public, clinic / "site.pem", clinic / "keys.json", "any", 30, gone, clinic / "words")
    return clinic / "keys.json"


def signed(clinic: Path, *names: str, yaml: Path = EXAMPLE) -> Path:
    out = clinic / "prescription.json"
    sign_file(yaml, [clinic / f"{n}.pem" for n in names], out, [clinic / "words"] * len(names))
    return out


def long_valid(tmp_path: Path) -> Path:
    """The example, valid whenever this test runs."""
    yaml = tmp_path / "long.yaml"
    yaml.write_text(
        EXAMPLE.read_text(encoding="utf-8")
        .replace("valid_until_s: 2027-01-01", "valid_until_s: 2100-01-01")
        .replace("2026-01-01", "2020-01-01")
    )
    return yaml


def test_from_a_new_key_to_the_interlocks_own_reading(clinic: Path, tmp_path: Path) -> None:
    """Clinic: make, certify, sign. Bedside: pair, trust. The interlock then reads exactly what was written."""
    data = tmp_path / "bedside"
    pair(site_key(clinic), data)
    trust(certified(clinic, "ann"), data)
    yaml = long_valid(tmp_path)
    file = signed(clinic, "ann", yaml=yaml)
    layout = Layout(data)
    wanted = parse_yaml(yaml.read_text(encoding="utf-8"))
    read = read_prescription(file, layout.keys, "p001", "simulated", time.time())
    assert read == wanted
    assert stat.S_IMODE((layout.keys / "trusted.json").stat().st_mode) == 0o600
    trust(certified(clinic, "bob"), data)
    with pytest.raises(PrescriptionError, match="not among this machine's trusted keys"):
        read_prescription(file, layout.keys, "p001", "simulated", time.time())


def test_a_private_key_is_encrypted_private_and_never_overwritten_nor_on_a_bedside_machine(clinic: Path, tmp_path: Path) -> None:
    pem = (clinic / "ann.pem").read_bytes()
    assert b"ENCRYPTED" in pem and stat.S_IMODE((clinic / "ann.pem").stat().st_mode) == 0o600
    assert public_key(unlock_key(pem, WORDS)).hex() == json.loads((clinic / "ann.pub.json").read_text())["key"]
    with pytest.raises(SetupError, match="never overwritten"):
        make_key("Dr. Example", clinic / "ann.pem", clinic / "words")
    data = tmp_path / "bedside"
    pair(site_key(clinic), data)
    trust(certified(clinic, "ann"), data)
    for place in (data / "new.pem", data / "keys" / "new.pem"):
        with pytest.raises(SetupError, match="bedside data directory"):
            make_key("X", place, clinic / "words")
        assert not place.exists()
    (clinic / "short").write_text("short\n")
    with pytest.raises(SetupError, match="at least 12"):
        make_key("X", clinic / "x.pem", clinic / "short")
    (clinic / "wrong").write_text("wrong words here\n")
    with pytest.raises(SetupError, match="wrong passphrase"):
        sign_file(EXAMPLE, [clinic / "ann.pem"], clinic / "out.json", [clinic / "wrong"])
    assert not (clinic / "out.json").exists()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("\n", "0 characters"), (" " * 40 + "\n", "0 characters"), ("x" * 1024 + "\n", "at most 1023"), ("ä" * 512 + "\n", "at most 1023"),
        ("x" * 1023 + "\n", ""), ("→ zwölf Zeichen 🔑\n", ""), ("nul\0 is a character\n", ""),
    ],
)  # fmt: skip
def test_a_passphrase_is_taken_and_opens_or_is_refused_with_a_word(tmp_path: Path, words: str, refused: str) -> None:
    (tmp_path / "words").write_text(words)
    if refused:
        with pytest.raises(SetupError, match=refused):
            make_key("Ann", tmp_path / "ann.pem", tmp_path / "words")
        assert not list(tmp_path.glob("ann*")), "nothing was written"
        return
    make_key("Ann", tmp_path / "ann.pem", tmp_path / "words")
    pem = (tmp_path / "ann.pem").read_bytes()
    assert public_key(unlock_key(pem, words[:-1])).hex() == json.loads((tmp_path / "ann.pub.json").read_text())["key"]
    for wrong in ("", words[:-2], words[:-1] + "x", "x" * 100_000, "\udcff"):
        with pytest.raises(PrescriptionError, match="passphrase"):
            unlock_key(pem, wrong)


def test_one_passphrase_typed_on_two_keyboards_is_one() -> None:
    composed, apart = "pässwörd lang genug", "pa\u0308sswo\u0308rd lang genug"
    seed = new_key()
    assert composed != apart
    for made in (composed, apart):
        for typed in (composed, apart):
            assert unlock_key(lock_key(seed, made), typed) == seed


def test_a_key_belongs_to_somebody(clinic: Path) -> None:
    with pytest.raises(SetupError, match="blank name"):
        make_key(" ", clinic / "nobody.pem", clinic / "words")
    assert not (clinic / "nobody.pem").exists()


def test_a_revoked_key_signs_no_more_and_an_old_list_does_not_bring_it_back(clinic: Path, tmp_path: Path) -> None:
    data = tmp_path / "bedside"
    pair(site_key(clinic), data)
    old = tmp_path / "old.json"
    old.write_bytes(certified(clinic, "ann").read_bytes())
    trust(old, data)
    trust(certified(clinic, "bob", revoked=("ann",)), data)
    with pytest.raises(SetupError, match="number: 1 must be at least 3"):
        trust(old, data)
    file = signed(clinic, "ann", yaml=long_valid(tmp_path))
    with pytest.raises(PrescriptionError, match="revoked"):
        read_prescription(file, Layout(data).keys, "p001", "simulated", time.time())


def test_pairing_is_once_and_another_sites_or_an_altered_list_is_refused(clinic: Path, tmp_path: Path) -> None:
    data = tmp_path / "bedside"
    with pytest.raises(SetupError, match="not paired yet"):
        trust(certified(clinic, "ann"), data)
    pair(public_key(SITE).hex(), data)
    with pytest.raises(SetupError, match="paired with another clinic"):
        pair(site_key(clinic), data)
    with pytest.raises(SetupError, match="not the site this machine is paired with"):
        trust(clinic / "keys.json", data)
    with pytest.raises(SetupError, match="64 hexadecimal"):
        pair("ABC", data)
    (data / "keys" / "site.json").write_text("{}")
    with pytest.raises(SetupError, match="damaged"):
        trust(clinic / "keys.json", data)
    entry = TrustedKey(public_key(ANN).hex(), "Dr. A", "prescriber", "any", 0, 2**40, False)
    text = keyring.certify([entry], 7, SITE)
    pinned = public_key(SITE).hex()
    assert keyring.read_list(text, pinned, 7) == keyring.KeyList(7, (entry,))
    body = json.loads(text)
    for change, says in (
        ({"format": "x"}, "format"),
        ({"signature": "00"}, "hexadecimal"),
        ({"signature": "00" * 64}, "does not fit"),
        ({"payload": "???"}, "base64"),
        ({"payload": body["payload"][:-4]}, "does not fit"),
    ):
        with pytest.raises(PrescriptionError, match=says):
            keyring.read_list(json.dumps({**body, **change}).encode(), pinned, 1)
    for number in (0, True, 2**53):
        with pytest.raises(PrescriptionError, match="number"):
            keyring.certify([entry], number, SITE)
    demo = TrustedKey("ab" * 32, "demo", "prescriber", "simulated", 0, 1, False)
    stray = TrustedKey("cd" * 32, "stray", "prescriber", "any", 0, 1, False)
    left_out = TrustedKey("ef" * 32, "student", "prescriber", "simulated", 0, 1, False)
    listed, present = keyring.KeyList(1, (entry,)), (demo, stray, left_out)
    assert keyring.install(listed, present, demo.key) == (entry, demo), "only the demo's own key stays"
    assert keyring.install(listed, present, stray.key) == (entry,), "and only for `simulated`"
    assert keyring.install(listed, present, "") == (entry,)


def test_above_lower_only_two_different_people_sign_for_a_real_stimulator(clinic: Path, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for find, put in (
        ("authority: lower_only", "authority: within_bounds"),
        ("profile: home", "profile: clinic"),
        ("device: simulated", "device: pulse_pal"),
        ('device_serial: "*"', 'device_serial: "7"'),
        ("signers: [Dr. Example]", "signers: [Dr. Example, Dr. Bob]"),
    ):
        assert find in text
        text = text.replace(find, put)
    yaml = tmp_path / "raise.yaml"
    yaml.write_text(text, encoding="utf-8")
    for keys, says in ((("ann",), "two different signers"), (("ann", "ann"), "same key is named twice")):
        with pytest.raises(SetupError, match=says):
            signed(clinic, *keys, yaml=yaml)
    with pytest.raises(SetupError, match=r"'Dr\. Bob' is named in the prescription"):
        signed(clinic, "ann", "site", yaml=yaml)
    body = json.loads(signed(clinic, "ann", "bob", yaml=yaml).read_text())
    assert len({entry["key"] for entry in body["signatures"]}) == 2


@pytest.mark.parametrize(
    ("find", "put", "says"),
    [
        ("amplitude_ua: 2000", "amplitud_ua: 2000", "line 13: prescription.amplitud_ua: unknown field; did you mean 'amplitude_ua'?"),
        ("amplitude_ua: 2000", "amplitude_ua: 2.0", "line 13: prescription.amplitude_ua: '2.0' .* whole number, 0-4000 µA"),
        ("amplitude_ua: 2000", "amplitude_ua: .nan", "line 13: prescription.amplitude_ua: '.nan'"),
        ("ramp_ua_per_s: 66  ", "ramp_ua_per_s: 660 ", "line 16: prescription.ramp_ua_per_s: 660 .* 1 to 100"),
        ("step_ua: 100", "step_ma: 100", "line 43: prescription.settings.step_ma: unknown .* did you mean 'step_ua'"),
        ("stale_ms: 10000", "# stale", "prescription.stale_ms: missing; allowed: whole number, 500-10000 ms"),
        ("day_sessions: 1 ", "day_sessions: 1\nday_sessions: 2 ", "line 21: prescription.day_sessions: must be a name that appears once"),
    ],
)  # fmt: skip
def test_errors_name_file_line_value_what_is_allowed_and_the_key_meant(tmp_path: Path, find: str, put: str, says: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert find in text
    file = tmp_path / "wrong.yaml"
    file.write_text(text.replace(find, put, 1), encoding="utf-8")
    with pytest.raises(SetupError, match=says) as error:
        sign_file(file, [], None, [])
    assert str(error.value).startswith(str(file))


def test_files_that_cannot_be_used_are_named(clinic: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"gone\.yaml: cannot be read"):
        sign_file(tmp_path / "gone.yaml", [], None, [])
    with pytest.raises(SetupError, match=r"gone\.pem: cannot be read"):
        sign_file(EXAMPLE, [tmp_path / "gone.pem"], None, [clinic / "words"])
    with pytest.raises(SetupError, match="2 given for 1 keys"):
        sign_file(EXAMPLE, [clinic / "ann.pem"], None, [clinic / "words"] * 2)
    with pytest.raises(SetupError, match="would overwrite"):
        sign_file(EXAMPLE, [clinic / "ann.pem"], EXAMPLE, [clinic / "words"])
    for body, says in (("{}", "as `eegloop keys new` writes it"), ('{"name":"","key":"x"}', "64 hexadecimal")):
        (clinic / "odd.pub.json").write_text(body)
        with pytest.raises(SetupError, match=says):
            certify_keys([clinic / "odd.pub.json"], clinic / "site.pem", clinic / "k.json", "any", 1, [], clinic / "words")
    with pytest.raises(SetupError, match="named twice"):
        certified(clinic, "ann", revoked=("ann",))
    (clinic / "k.json").write_text("{}")
    with pytest.raises(SetupError, match="must be an object"):
        certify_keys([clinic / "ann.pub.json"], clinic / "site.pem", clinic / "k.json", "any", 1, [], clinic / "words")


def test_the_command_line_signs_and_says_so(clinic: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "daemon", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    out = clinic / "p.json"
    done = run(
        "sign", str(EXAMPLE), "--key", str(clinic / "ann.pem"), "--passphrase-file", str(clinic / "words"), "--out", str(out)
    )
    assert done.returncode == 0 and "at most 2 mA" in done.stdout and out.exists(), done.stderr
    asks = run("sign", str(EXAMPLE), "--key", str(clinic / "ann.pem"))
    assert asks.returncode == 1 and "no terminal to ask" in asks.stderr


def test_a_ramp_quicker_than_usual_is_said_at_the_desk(clinic: Path, tmp_path: Path) -> None:
    """On a stimulator that nobody wears; on a person it is refused."""
    assert "Warning: ramp_ua_per_s" not in sign_file(EXAMPLE, [], None, [])
    text = re.sub(r"^ramp_ua_per_s:.*$", "ramp_ua_per_s: 100", EXAMPLE.read_text(encoding="utf-8"), flags=re.M)
    (tmp_path / "quick.yaml").write_text(text)
    said = sign_file(tmp_path / "quick.yaml", [], None, [])
    assert "ramp_ua_per_s 100 reaches 2 mA in 20 s; on a person tdcs must take at least 30 s, and 66 would." in said
    worn = text.replace("device: simulated", "device: pulse_pal").replace('device_serial: "*"', "device_serial: pal-7")
    (tmp_path / "worn.yaml").write_text(worn)
    with pytest.raises(SetupError, match="ramp_ua_per_s: 100 reaches 2 mA in less than 30 s; at most 66 does not"):
        sign_file(tmp_path / "worn.yaml", [], None, [])
    (tmp_path / "quicker.yaml").write_text(text.replace("ramp_ua_per_s: 100", "ramp_ua_per_s: 101"))
    with pytest.raises(SetupError, match="ramp_ua_per_s"):
        sign_file(tmp_path / "quicker.yaml", [], None, [])


def test_the_schema_covers_every_field_with_its_range_and_the_document_shows_it() -> None:
    assert list(schema.FIELDS) == list(Prescription.__dataclass_fields__)
    for name, (low, high) in schema.RANGES.items():
        assert f"{low}-{high}" in schema.FIELDS[name].allowed or name.startswith("valid_")
        assert schema.FIELDS[name].unit and schema.FIELDS[name].about != "see the release notes"
    assert schema.markdown() in (ROOT / "docs" / "prescriptions.md").read_text(encoding="utf-8")
    assert len(fields_text().splitlines()) == len(schema.FIELDS)
    assert re.search(r"amplitude_ua +µA +whole number, 0-4000", fields_text())
    assert parse_trusted(b'{"keys":[]}') == ()


def home_prescription(clinic: Path, tmp_path: Path) -> Path:
    yaml = long_valid(tmp_path)
    text = yaml.read_text(encoding="utf-8")
    for field, value in (("profile", "home"), ("device", "mqtt"), ("device_serial", '"7"')):
        text = re.sub(rf"^{field}:.*$", f"{field}: {value}", text, flags=re.M)
    yaml.write_text(text)
    return signed(clinic, "ann", yaml=yaml)


def test_a_start_code_from_the_command_is_what_the_interlock_reads(clinic: Path, tmp_path: Path) -> None:
    data = tmp_path / "bedside"
    pair(site_key(clinic), data)
    trust(certified(clinic, "ann"), data)
    prescription = home_prescription(clinic, tmp_path)
    out, words = clinic / "start.code", [clinic / "words"]
    said = start_code_file(prescription, 3, 5_400_000, 24.0, [clinic / "ann.pem"], out, words)
    assert "Session 3" in said and str(out) in said and stat.S_IMODE(out.stat().st_mode) == 0o600
    signed_one = read_prescription(prescription, Layout(data).keys, "p001", "mqtt", time.time())
    course = rules(signed_one, None, ()).course
    keys = Layout(data).keys
    assert read_start_code(out, keys, "p001", course, "mqtt", time.time()) == (3, 5_400_000)
    with pytest.raises(PrescriptionError, match="expired"):
        read_start_code(out, keys, "p001", course, "mqtt", time.time() + 25 * 3600)


def test_a_start_code_needs_a_key_a_session_of_the_course_and_a_home_prescription(clinic: Path, tmp_path: Path) -> None:
    prescription, key, words = home_prescription(clinic, tmp_path), [clinic / "ann.pem"], [clinic / "words"]
    out = clinic / "start.code"
    with pytest.raises(SetupError, match="only the clinic"):
        start_code_file(prescription, 1, 0, 24.0, [], out, [])
    most = parse_yaml((tmp_path / "long.yaml").read_text(encoding="utf-8")).course_sessions
    with pytest.raises(SetupError, match=f"this course has sessions 1 to {most}"):
        start_code_file(prescription, most + 1, 0, 24.0, key, out, words)
    with pytest.raises(SetupError, match="dose_uc"):
        start_code_file(prescription, 1, -1, 24.0, key, out, words)
    with pytest.raises(SetupError, match="would overwrite"):
        start_code_file(prescription, 1, 0, 24.0, key, prescription, words)
    with pytest.raises(SetupError, match="--passphrase-file"):
        start_code_file(prescription, 1, 0, 24.0, key, out, words * 2)
    in_the_clinic = signed(clinic, "ann", yaml=EXAMPLE)
    with pytest.raises(SetupError, match="needs no start code"):
        start_code_file(in_the_clinic, 1, 0, 24.0, key, out, words)
    with pytest.raises(SetupError, match="not JSON"):
        start_code_file(EXAMPLE, 1, 0, 24.0, key, out, words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("example", "find", "put", "says"),
    [
        ("left_dlpfc_10hz", "protocol: 10hz_26s", "protocol: table", r"pulses\.train_pulses: 4000, but 3150 \(interlock\): above the train table"),
        ("left_dlpfc_10hz", "intensity_percent: 120", "intensity_percent: 119", r"pulses\.intensity_percent: 119, but 120 \(interlock\)"),
        ("left_dlpfc_10hz", "device: magstim", "device: p24", r"device: p24, but a covered stimulator \(interlock\)"),
        ("bifrontal_tdcs", "device: simulated", "device: lsl_markers", r"device: inf, but 1000\.0 \(interlock\): current from 'lsl_markers'"),
    ],
)  # fmt: skip
def test_what_the_interlock_would_refuse_is_refused_at_the_desk(
    clinic: Path, tmp_path: Path, example: str, find: str, put: str, says: str
) -> None:
    text = (EXAMPLE.parent / f"{example}.yaml").read_text(encoding="utf-8")
    assert find in text
    path = tmp_path / "beyond.yaml"
    path.write_text(text.replace(find, put).replace('device_serial: "*"', 'device_serial: "7"'), encoding="utf-8")
    with pytest.raises(SetupError, match=says):
        signed(clinic, "ann", yaml=path)
    assert not path.with_suffix(".json").exists()


def test_what_no_stimulator_of_that_kind_can_give_is_refused_at_the_desk(tmp_path: Path) -> None:
    """A Pulse Pal drives current and no coil: before, pulses from it could be signed, and no interlock ever armed them."""
    text = (ROOT / "control" / "examples" / "trough_of_alpha_pulses.yaml").read_text(encoding="utf-8")
    (tmp_path / "coil.yaml").write_text(text.replace("device: magstim", "device: pulse_pal"))
    with pytest.raises(SetupError, match=r"pulses\.intensity_percent: 55, but 0 \(device\)"):
        sign_file(tmp_path / "coil.yaml", [], None, [])
    (tmp_path / "unheard_of.yaml").write_text(text.replace("device: magstim", "device: magstm"))
    with pytest.raises(SetupError, match=r"prescription\.device: 'magstm' is no stimulator; there are .*did you mean 'magstim'"):
        sign_file(tmp_path / "unheard_of.yaml", [], None, [])
    assert "Valid" in sign_file(ROOT / "control" / "examples" / "pulse_pal_gated.yaml", [], None, [])
