"""What is wrong at one seat stays there: a headset whose stream does not fit, a person's files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from running_service import Sender, running, seat_config, sign_prescriptions, until, write_config

from daemon.audit import Head
from daemon.trail_anchors import outside

LABELS = ("Fp1", "F3", "F4", "Cz")


def test_a_headset_that_does_not_fit_leaves_the_other_seat_alone(tmp_path: Path) -> None:
    """64 samples a second under a low pass of 45 Hz: that seat says so and waits; the other one records."""
    data = tmp_path / "data"
    seats = [seat_config(name, {"kind": "lsl", "name": f"fit-{name}", "type": "EEG"}) for name in ("good", "slow")]
    sign_prescriptions(data, seats, authority="observe")
    noise = np.random.default_rng(1).normal(scale=10, size=(30_000, 4)).astype(np.float32)
    senders = [Sender(noise, LABELS, rate, f"fit-{name}", tmp_path) for name, rate in (("good", 250.0), ("slow", 64.0))]
    try:
        for sender in senders:
            sender.wait("ready", 60)
            sender.send()
        with running("run", write_config(tmp_path / "config.yaml", seats), data) as service:
            until(lambda: "does not fit" in service.log(), 40, "the slow seat says what is wrong")
            until(lambda: list(service.layout.recordings.glob("sub-good/*/*/*_eeg.vhdr")), 40, "the good seat records")
            n = len(service.recorded("good").samples())
            until(lambda: len(service.recorded("good").samples()) > n + 250, 20, "it goes on")
            assert "low_pass_hz" in service.log()
            assert service.stop() == 0
            assert "Traceback" not in service.output()
    finally:
        for sender in senders:
            sender.end()


def test_one_persons_bad_files_keep_nobody_else_from_a_session(tmp_path: Path) -> None:
    """A prescription that is none, and answers that cannot be opened: those seats are named and left out, the third one runs."""
    data = tmp_path / "data"
    seats = [
        seat_config(name, {"kind": "lsl", "name": f"files-{name}", "type": "EEG"}) for name in ("unsigned", "closed", "good")
    ]
    sign_prescriptions(data, seats)
    (data / "unsigned.json").write_text("not a prescription")
    (data / "persons" / "closed" / "answers.jsonl").mkdir(parents=True)
    # A stimulator that is worn, so the audit trail is anchored; its anchor knows lines that are gone, and cannot be moved.
    seats[0]["stimulator"] = {"kind": "pulse_pal", "port": "/dev/null"}
    anchor = outside((data / "audit" / "daemon.jsonl"), tmp_path / "state" / "trails")
    anchor.move(Head(99, "0" * 64))
    (file,) = (tmp_path / "state" / "trails").iterdir()
    file.with_suffix(".new").mkdir()
    with running("run", write_config(tmp_path / "config.yaml", seats), data, state=tmp_path / "state") as service:
        until(lambda: any(line["event"] == "anchor" for line in service.audit()), 20, "the good seat's log is anchored")
        page = service.page()
        until(lambda: page.seat("closed"), 10, "a state of every seat")
        for name, why in (("unsigned", "unsigned.json"), ("closed", "answers.jsonl")):
            alarm = page.seat(name)["alarms"][0]
            assert alarm["id"] == "left_out" and why not in json.dumps(page.seat(name)), "a path names the person"
            assert f"NOT running: Seat {name} ({name})" in service.output() and why in service.output()
            assert any(line["event"] == "left_out" and line["data"]["seat"] == name for line in service.audit())
        assert [seat["seat"] for seat in page.states[-1]["seats"]] == ["unsigned", "closed", "good"]
        assert page.seat("good")["output"]["age_s"] < 2.0, "its interlock answers"
        assert not any(alarm["id"] == "left_out" for alarm in page.seat("good")["alarms"])
        standing = {alarm["id"]: alarm["priority"] for alarm in page.seat("good")["alarms"]}
        assert standing.items() >= {"trail_differs": "medium", "trail_anchor": "medium"}.items(), "and its session may go on"
        assert {"trail_differs", "trail_anchor_fails"} <= {line["event"] for line in service.audit()}
        page.close()
        service.kill()
        verified = service.run_command("verify", str(data))
        wrong = [line for line in verified.stdout.splitlines() if line.startswith("error")]
        assert len(wrong) == 1 and "answers.jsonl: cannot be read: Is a directory" in wrong[0], verified.stdout
        assert "Traceback" not in service.output() + service.log()
