"""Who got what in a blinded trial: drawn in balanced blocks, told by no command but `unblind`, and never changed unseen."""

from __future__ import annotations

import random
import shutil
import stat
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.allocation import ACTIVE, BLOCK_SIZES, SHAM, Place, chain_path, draw, pair_of, unblind
from daemon.audit import AuditTrail, head_path, verify_chain
from daemon.trail_anchors import TrailAnchors
from daemon.verify import verify_dataset
from eegloop.errors import SetupError
from eegloop.layout import Layout
from tests.blinded_trial import PERSON, TRIAL, Trial, pair

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def drawn(n: int, seed: int) -> list[Place]:
    rng, places = random.Random(seed), []
    for _ in range(n):
        places.append(draw(places, rng.randrange))
    return places


@pytest.mark.parametrize("seed", range(40))
def test_each_block_has_both_arms_equally_often(seed: int) -> None:
    places = drawn(200, seed)
    for block in range(places[-1].block):  # whole ones: the last may still be filling
        arms = [place.arm for place in places if place.block == block]
        assert len(arms) in BLOCK_SIZES
        assert arms.count(ACTIVE) == arms.count(SHAM) == len(arms) // 2
    assert {place.size for place in places} == set(BLOCK_SIZES)
    for n in range(1, len(places)):  # at no time may one arm lead by more than half a block
        counts = Counter(place.arm for place in places[:n])
        assert abs(counts[ACTIVE] - counts[SHAM]) <= max(BLOCK_SIZES) // 2


def test_every_order_of_a_block_comes_equally_often() -> None:
    rng = random.Random(1)
    orders = Counter()
    for _ in range(12_000):
        places: list[Place] = []
        while not places or len(places) < places[0].size:
            places.append(draw(places, rng.randrange))
        if len(places) == 4:
            orders["".join(place.arm[0] for place in places)] += 1
    assert len(orders) == 6
    total = sum(orders.values())
    assert all(abs(count / total - 1 / 6) < 0.03 for count in orders.values()), orders


def test_the_draw_is_the_machines_own_chance_not_the_names(tmp_path: Path) -> None:
    """Twelve trials allocate the same person first: a fair coin falls the same way twelve times in 1 of 2048."""
    trial = Trial(tmp_path)
    for n in range(24):
        trial.allocate(trial=f"t{n}")
    assert len({line["data"]["arm"] for line in trial.lines() if line["event"] == "allocated"}) == 2


def test_a_person_is_allocated_once_and_stays_in_the_arm_when_prescriptions_are_renewed(trial: Trial) -> None:
    first = trial.allocate()
    arm = trial.arm()
    active, sham = pair(session_ms=600_000)
    second = trial.allocate(files=trial.files(active=active, sham=sham))
    assert "stays in the same arm" in second and second != first
    events = [line["event"] for line in trial.lines()]
    assert events == ["created", "allocated", "renewed"]
    found = pair_of(trial.layout, TRIAL, PERSON, "simulated", time.time())
    assert (found.arm, found.active) == (arm, active)
    assert found.signed == trial.files(active=active, sham=sham)[arm].read_bytes()


def test_what_a_command_prints_is_the_same_in_both_arms(trial: Trial) -> None:
    said: dict[str, set[str]] = {ACTIVE: set(), SHAM: set()}
    for n in range(16):
        person = f"p{n:03}"
        text = trial.allocate(person).replace(person, "PERSON")
        said[trial.arm(person)].add(text)
    assert said[ACTIVE] == said[SHAM] and len(said[ACTIVE]) == 1


def test_unblinding_is_written_down_before_it_is_told(trial: Trial) -> None:
    trial.allocate()
    told = unblind(trial.layout, TRIAL, PERSON, "Dr. Bo", "a seizure at 14:20", trial.clock)
    assert trial.arm().upper() in told
    last = trial.lines()[-1]
    assert last["event"] == "unblinded"
    assert last["data"] == {"trial": TRIAL, "person": PERSON, "by": "Dr. Bo", "reason": "a seizure at 14:20"}
    assert verify_chain(chain_path(trial.layout)) == []


@pytest.mark.parametrize(
    ("who", "reason", "person", "says"),
    [
        ("", "why", PERSON, "--who"),
        ("Dr.\nBo", "why", PERSON, "--who"),
        ("B" * 81, "why", PERSON, "--who"),
        ("Dr. Bo", " ", PERSON, "--reason"),
        ("Dr. Bo", "why", "p999", "not allocated"),
        ("Dr. Bo", "why", "../p1", "code"),
    ],
)
def test_no_arm_is_told_without_a_name_a_reason_and_a_person(trial: Trial, who: str, reason: str, person: str, says: str) -> None:
    trial.allocate()
    before = trial.lines()
    with pytest.raises(SetupError, match=says):
        unblind(trial.layout, TRIAL, person, who, reason, trial.clock)
    assert trial.lines() == before


def test_unblinding_in_another_directory_says_so_and_makes_nothing_there(trial: Trial) -> None:
    """In an emergency somebody forgets --data: "not allocated" would be the wrong answer."""
    trial.allocate()
    elsewhere = Layout(trial.folder / "elsewhere")
    with pytest.raises(SetupError, match=r"elsewhere.*nobody was allocated here; name the service's data directory with --data"):
        unblind(elsewhere, TRIAL, PERSON, "Dr. Bo", "a seizure", trial.clock)
    assert not elsewhere.data.exists()


def test_no_arm_is_told_while_it_cannot_be_written_down(trial: Trial) -> None:
    trial.allocate()
    other = AuditTrail(chain_path(trial.layout), trial.clock)  # somebody else has the chain
    with pytest.raises(Exception, match="another eegloop is writing"):
        unblind(trial.layout, TRIAL, PERSON, "Dr. Bo", "why", trial.clock)
    other.close()
    assert [line["event"] for line in trial.lines()] == ["created", "allocated"]


@pytest.mark.parametrize("way", ["changed", "cut", "head"])
def test_an_allocation_that_was_changed_counts_for_nobody(trial: Trial, way: str) -> None:
    trial.allocate()
    path = chain_path(trial.layout)
    text = path.read_text()
    if way == "changed":
        other = {ACTIVE: SHAM, SHAM: ACTIVE}[trial.arm()]
        path.write_text(text.replace(f'"arm":"{trial.arm()}"', f'"arm":"{other}"'))
    elif way == "cut":
        path.write_text(text.splitlines(keepends=True)[0])
    else:
        head_path(path).unlink()
    with pytest.raises(SetupError, match=r"hash|head|lines were cut"):
        pair_of(trial.layout, TRIAL, PERSON, "simulated", time.time())
    assert any(finding.level == "error" for finding in verify_dataset(trial.layout.data, trial.folder / "state"))


@pytest.mark.parametrize("way", ["chain", "chain and head", "store, seen by the audit trail", "another clinic's", "an older one"])
def test_allocations_that_are_gone_are_not_drawn_anew(trial: Trial, way: str) -> None:
    """Whoever lost an arm would get a coin's; half of all persons would change arms."""
    trial.allocate()
    path = chain_path(trial.layout)
    older = path.read_bytes(), head_path(path).read_bytes()
    trial.allocate("p002")
    if way not in ("chain", "chain and head"):
        audit = AuditTrail(trial.layout.audit / "daemon.jsonl", trial.clock)
        TrailAnchors(audit, None).write([path])
        audit.close()
    if way == "chain":
        path.unlink()
    elif way == "chain and head":
        path.unlink()
        head_path(path).unlink()
    elif way == "an older one":
        path.write_bytes(older[0])
        head_path(path).write_bytes(older[1])
    else:
        shutil.rmtree(trial.layout.store)
    if way == "another clinic's":
        other = Trial(trial.folder / "other")
        for person in ("p001", "p002", "p003"):
            other.allocate(person)
        shutil.copytree(other.layout.store, trial.layout.store)
    before = path.read_bytes() if path.exists() else None
    for act in (
        lambda: pair_of(trial.layout, TRIAL, PERSON, "simulated", time.time()),
        lambda: trial.allocate(),
        lambda: trial.allocate("p004"),
        lambda: unblind(trial.layout, TRIAL, PERSON, "Dr. Bo", "why", trial.clock),
    ):
        with pytest.raises(SetupError, match=r"lines fit\)\. Do not allocate again"):
            act()
    assert (path.read_bytes() if path.exists() else None) == before  # nothing was begun


@pytest.mark.parametrize("arm", [ACTIVE, SHAM])
def test_a_signer_who_is_named_and_did_not_sign_is_refused_before_anybody_is_allocated(trial: Trial, arm: str) -> None:
    """The interlock refuses such a file, but of the person's own arm only: whoever cannot begin would know it."""
    active, sham = pair()
    named = {arm: replace({ACTIVE: active, SHAM: sham}[arm], signers=("Dr. Nobody",))}
    with pytest.raises(SetupError, match=rf"{arm}: prescription.signers: 'Dr. Nobody' is named but no signature is theirs"):
        trial.allocate(files=trial.files(PERSON, **named))
    assert not chain_path(trial.layout).exists()


def test_a_prescription_that_was_swapped_is_refused(trial: Trial) -> None:
    trial.allocate()
    folder = trial.layout.store / "trials" / TRIAL / PERSON
    one, two = sorted(folder.glob("*.json"))
    one.write_bytes(two.read_bytes())
    with pytest.raises(SetupError, match="not the one that was allocated"):
        pair_of(trial.layout, TRIAL, PERSON, "simulated", time.time())


def test_somebody_who_was_not_allocated_gets_nothing(trial: Trial) -> None:
    with pytest.raises(SetupError, match="not allocated yet"):
        pair_of(trial.layout, TRIAL, PERSON, "simulated", time.time())


def test_nothing_of_the_store_is_open_to_others(trial: Trial) -> None:
    trial.allocate()
    for path in [trial.layout.store, *trial.layout.store.rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_setting_that_only_one_has_is_named(trial: Trial) -> None:
    active, sham = pair()
    more = replace(sham, settings={**sham.settings, "average_n": 9})
    with pytest.raises(SetupError, match=r"sham\.settings\.average_n: 9 must be"):
        trial.allocate(files=trial.files(active=active, sham=more))
    assert not chain_path(trial.layout).exists()


def test_a_prescription_that_nobody_signed_or_of_another_person_is_not_allocated(trial: Trial) -> None:
    with pytest.raises(SetupError, match="patient"):
        trial.allocate("p002", trial.files("p001"))
    files = trial.files()
    files["sham"].write_text(files["sham"].read_text().replace('"signature": "', '"signature": "00')[:-3])
    with pytest.raises(SetupError, match="nothing was allocated"):
        trial.allocate(files=files)
    with pytest.raises(SetupError, match="cannot be read"):
        trial.allocate(files={**files, "sham": trial.folder / "none"})
    (trial.folder / "empty").write_text("{}")
    with pytest.raises(SetupError, match=r"sham: .*empty: .*exactly the fields.*eegloop sign"):
        trial.allocate(files={**files, "sham": trial.folder / "empty"})
    with pytest.raises(SetupError, match="a-z"):
        trial.allocate(trial="Big Trial")
    assert not chain_path(trial.layout).exists()


def test_the_commands_as_the_clinic_types_them(trial: Trial) -> None:
    def eegloop(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "daemon", *arguments, "--data", str(trial.layout.data)]
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)

    files, who = trial.files(), ("--trial", TRIAL, "--person", PERSON, "--who", "Dr. Bo")
    done = eegloop("allocate", *who, "--active", str(files["active"]), "--sham", str(files["sham"]))
    assert done.returncode == 0 and "The arm is shown to nobody" in done.stdout, done.stderr
    refused = eegloop("unblind", *who, "--reason", "")
    assert refused.returncode == 1 and "--reason" in refused.stderr and "arm of trial" not in refused.stdout
    told = eegloop("unblind", *who, "--reason", "a seizure")
    assert told.returncode == 0 and f"in the {trial.arm().upper()} arm" in told.stdout
    assert [line["event"] for line in trial.lines()] == ["created", "allocated", "unblinded"]
