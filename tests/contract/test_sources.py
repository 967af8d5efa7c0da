"""What every source plug-in must offer, found by enumerating the folder."""

from __future__ import annotations

import inspect
import time

import pytest
from pydantic import ValidationError

from eegloop.closed import Closed
from eegloop.errors import SourceError
from eegloop.plugins import find, kinds

MINIMAL = {
    "lsl": {"name": "eegloop-absent", "wait_s": 0.5},
    "brainflow": {"board": "ABSENT_BOARD"},
    "playback": {"file": "/absent.vhdr"},
}


class MachineTimes:
    def boot_ns(self) -> int:
        return time.monotonic_ns()

    def lsl_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()


def test_the_three_sources_are_found() -> None:
    assert set(kinds("source")) >= {"lsl", "brainflow", "playback"}


@pytest.mark.parametrize("kind", kinds("source"))
def test_settings_are_closed_frozen_and_described(kind: str) -> None:
    settings = find("source", kind).Settings
    assert issubclass(settings, Closed)
    for name, field in settings.model_fields.items():
        assert field.description, f"{kind}.{name} needs a description with its unit"
    with pytest.raises(ValidationError):
        settings.model_validate({**MINIMAL[kind], "no_such_key": 1})


@pytest.mark.parametrize("kind", kinds("source"))
async def test_a_source_that_cannot_connect_says_so_in_one_line(kind: str) -> None:
    module = find("source", kind)
    source = module.build(module.Settings.model_validate(MINIMAL[kind]), MachineTimes())
    with pytest.raises(SourceError) as before:
        _ = source.info
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        async with source:
            pass
    assert time.monotonic() - began < 30
    for text in (str(before.value), str(caught.value)):
        assert text and "\n" not in text
    assert inspect.isasyncgenfunction(type(source).chunks)
