"""A prescription signed with `eegloop sign` runs the service (`eegloop run`) end to end on the simulated stimulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from running_service import Script, Stimulator, run_command, running, seat_config, until, write_config

from daemon.keys_command import certify_keys, make_key, pair, trust

PERSON = "p001"
WORDS = "correct horse battery"
YAML = Path(__file__).parents[2] / "control" / "examples" / "bifrontal_tdcs.yaml"
SHORTER = {
    "baseline_ms: 120000": "baseline_ms: 1000",
    "stimulate_ms: 180000": "stimulate_ms: 60000",
    "amplitude_ua: 2000": "amplitude_ua: 800",
    "start_ua: 2000": "start_ua: 100",
    "valid_from_s: 2026-01-01": "valid_from_s: 2020-01-01",
    "valid_until_s: 2027-01-01": "valid_until_s: 2100-01-01",
}


def test_signed_at_the_clinic_trusted_at_the_bedside_and_delivered_within_its_limits(tmp_path: Path) -> None:
    text = YAML.read_text(encoding="utf-8")
    for find, put in SHORTER.items():
        assert find in text
        text = text.replace(find, put)
    clinic, data = tmp_path / "clinic", tmp_path / "data"
    clinic.mkdir()
    (clinic / "words").write_text(WORDS + "\n")
    (clinic / "p.yaml").write_text(text, encoding="utf-8")
    words = clinic / "words"
    site = make_key("Site", clinic / "site.pem", words).splitlines()[-1]
    make_key("Dr. Example", clinic / "ann.pem", words)
    certify_keys([clinic / "ann.pub.json"], clinic / "site.pem", clinic / "keys.json", "any", 30, [], words)
    pair(site, data)
    trust(clinic / "keys.json", data)
    keys = ("--key", str(clinic / "ann.pem"), "--passphrase-file", str(words))
    signed = run_command("sign", str(clinic / "p.yaml"), *keys, "--out", str(tmp_path / "p.json"))
    assert signed.returncode == 0, signed.stderr
    seat = seat_config("one", {"kind": "lsl", "name": "signed-one", "type": "EEG"}, person=PERSON)
    seat["prescription"] = str(tmp_path / "p.json")
    board = Script("board", "-m", "simulators.board", "--seat", "one", "--data", str(data), "--name", "signed-one")
    stimulator = Stimulator(data, "one")
    try:
        with running("run", write_config(tmp_path / "config.yaml", [seat]), data) as service:
            page = service.page()
            for name, before, after in (
                ("rearm", "stopped", ("off",)),
                ("start", "off", ("screen", "contact")),
            ):
                until(lambda before=before: page.seat("one").get("phase") == before, 30, f"phase {before}")
                press(page, name, after)
            until(lambda: page.seat("one")["forms"]["due"], 5, "the forms")
            page.fill_in_all("one")
            until(lambda: page.seat("one")["phase"] == "on", 60, "stimulation under the signed prescription")
            until(lambda: page.seat("one")["output"]["confirmed_ma"] == 0.1, 5, "the whole of what was signed")
            assert page.seat("one")["output"]["limit_ma"] <= 0.8
            assert page.ask(type="command", seat="one", name="end")["ok"] is True
            until(lambda: page.seat("one")["phase"] == "post", 30, "the planned end")
            page.close()
            record = np.fromfile(service.layout.seat("one") / "stimulator" / "output.bin", [("ns", "<i8"), ("ma", "<f8")])
            assert 0.0999 <= record["ma"].max() <= 0.1001, "never above the signed start under lower_only"
            rise = np.diff(record["ma"]).max()
            assert rise <= 0.0661 * 0.06, "never steeper than the signed ramp allows between two orders of the interlock"
    finally:
        stimulator.end()
        board.end()


def press(page: object, name: str, after: tuple[str, ...]) -> None:
    """Press until it took: a re-arm is refused while the interlock has not confirmed zero yet."""

    def took() -> bool:
        if page.seat("one")["phase"] in after:  # type: ignore[attr-defined]
            return True
        answer = page.ask(type="command", seat="one", name=name)  # type: ignore[attr-defined]
        return answer["ok"] is True and page.seat("one")["phase"] in after  # type: ignore[attr-defined]

    until(took, 30, f"{name} takes effect")
