"""Every change of phase that a session can make; docs/session.md is drawn from this table, and no other change happens."""

from __future__ import annotations

from eegloop.stim import Phase

# An enum's member costs a function call each time it is named, and these are named some thirty times a tick.
OFF, SCREEN, CONTACT, BASELINE, RAMP_UP = Phase.OFF, Phase.SCREEN, Phase.CONTACT, Phase.BASELINE, Phase.RAMP_UP
ON, RAMP_DOWN, POST, FALLBACK, STOPPED = Phase.ON, Phase.RAMP_DOWN, Phase.POST, Phase.FALLBACK, Phase.STOPPED

CONTACT_S = 5.0  # every channel good for this long before the session goes on
LIVE = (Phase.RAMP_UP, Phase.ON, Phase.RAMP_DOWN)
BEFORE = (Phase.SCREEN, Phase.CONTACT, Phase.BASELINE)

_WHY_FALLBACK = "no supervision, stale or missing biomarker, pain or strong tingling, or the interlock fell back"

# (from, to, because)
TRANSITIONS: tuple[tuple[Phase, Phase, str], ...] = (
    (Phase.STOPPED, Phase.OFF, "a person re-arms: cause cleared, interlock stopped, zero confirmed"),
    (Phase.STOPPED, Phase.SCREEN, "the demo, once after the service's start, device `simulated` only"),
    (Phase.OFF, Phase.SCREEN, "a person presses start, the lockout is over and nothing waits for a clinician"),
    (Phase.POST, Phase.SCREEN, "as above: a new session"),
    (
        Phase.SCREEN,
        Phase.CONTACT,
        "a person has answered every form that is due, and no answer forbids a session (in the demo the virtual person)",
    ),
    (Phase.CONTACT, Phase.BASELINE, f"every channel good for {CONTACT_S:g} s"),
    (Phase.CONTACT, Phase.RAMP_UP, "as above, with the baseline already taken (after a fallback)"),
    (Phase.CONTACT, Phase.ON, "as above, under authority `observe`: nothing to ramp"),
    (Phase.BASELINE, Phase.CONTACT, "the stream went stale: the baseline starts anew"),
    (Phase.BASELINE, Phase.RAMP_UP, "enough clean values; recording, audit trail, supervision and interlock in order"),
    (Phase.BASELINE, Phase.ON, "as above, under authority `observe`: nothing to ramp"),
    (Phase.RAMP_UP, Phase.ON, "the interlock reports the start amplitude"),
    (Phase.RAMP_UP, Phase.RAMP_DOWN, "a person ends the session, or an answer calls for a clinician"),
    (Phase.ON, Phase.RAMP_DOWN, "a person ends it, its time or charge is used up, or an answer calls for a clinician"),
    (Phase.RAMP_DOWN, Phase.POST, "zero confirmed"),
    *((phase, Phase.OFF, "a person ends the session before it stimulated") for phase in BEFORE),
    (Phase.POST, Phase.OFF, "a person ends the session, or an answer calls for a clinician"),
    *((phase, Phase.FALLBACK, _WHY_FALLBACK) for phase in LIVE),
    (Phase.FALLBACK, Phase.CONTACT, "a person re-arms: cause cleared, zero confirmed (first fallback only)"),
    *(
        (phase, Phase.STOPPED, "STOP, a grave symptom, interlock tripped or silent, no recording or audit trail, clock backwards")
        for phase in (Phase.OFF, *BEFORE, *LIVE, Phase.POST)
    ),
    (Phase.FALLBACK, Phase.STOPPED, "STOP, zero not confirmed in time, or the second fallback reached zero"),
)
ALLOWED = frozenset((a, b) for a, b, _ in TRANSITIONS)


def markdown() -> str:
    """The table as docs/session.md shows it: a state diagram and one row a change."""
    rows = "\n".join(f"| `{a}` | `{b}` | {because} |" for a, b, because in TRANSITIONS)
    arrows = "\n".join(f"    {a} --> {b}" for a, b, _ in TRANSITIONS if b != Phase.STOPPED)
    return (
        "```mermaid\nstateDiagram-v2\n    [*] --> stopped\n"
        f"{arrows}\n```\n\nNot drawn: every phase --> `stopped`.\n\n| from | to | because |\n|---|---|---|\n{rows}\n"
    )
