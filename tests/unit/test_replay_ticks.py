"""What a seat writes down of pulses and of contact comes back in the tick that had it: replay decides on what was decided on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import record_stream as made

from daemon.record import SessionRecorder
from daemon.record_writer import RecordWriter
from daemon.replay import recorded_ticks
from eegloop.layout import Layout
from eegloop.signal import Chunk
from records.session import RecordedSession, contact_data, contact_kohm


def test_pulses_and_impedances_come_back_in_their_ticks(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    info = made.stream()
    kohm = np.array([5.0, np.inf, np.nan, -1.0, 210.5, 1e-3, np.nan, np.inf])
    with RecordWriter() as writer:
        recorder = SessionRecorder(
            writer, layout, "seat1", "p1", "rest", info, made.COLUMNS, 50.0, {}, 1e9, made.SystemClock(), setup={"demo": True}
        )
        for number in range(1, 6):
            first = (number - 1) * 5
            at_s = 100.0 + first / 250
            chunk = Chunk(made.grid_uv(first, 5, 8), first, at_s, at_s + 0.02)
            if number == 2:
                recorder.event(number, at_s + 0.02, "pulses", "", {"at_s": [100.0123456789, 100.07]})
            if number == 3:
                chunk = replace(chunk, impedance_kohm=kohm)
                recorder.event(number, at_s + 0.02, "contact", "", contact_data(info, kohm))
            recorder.chunk(number, chunk)
        assert recorder.close(5.0)
        header = layout.recordings / recorder.status.session
    ticks = list(recorded_ticks(RecordedSession(header)))
    assert [tick.number for tick in ticks] == [1, 2, 3, 4, 5]
    assert [tick.pulses_s for tick in ticks] == [(), (100.0123456789, 100.07), (), (), ()]
    contacts = [tick.chunk.impedance_kohm for tick in ticks if tick.chunk is not None]
    assert [contact is None for contact in contacts] == [True, True, False, True, True]
    np.testing.assert_array_equal(contacts[2], kohm)
    assert np.isnan(contact_kohm(info, {})).all()
