"""The study's table and figures: plain text and SVG of our own, so that it needs nothing beside what is there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from daemon.study.cells import WITHIN_BOUNDS
from daemon.study.metrics import Result

Cell = tuple[str, str, str]
GIVEN_UP_BY_MIN = (5, 10, 15, 20, 30)
_HEAD = (
    "level", "person", "arm", "n", "in range", "error", "measured", "charge mC", "steps mA", "cycles", "holds", "fallbacks", "trips",
    "last mA", "violations",
)  # fmt: skip


def by_cell(results: Iterable[Result]) -> dict[Cell, list[Result]]:
    """Results by (level, person, arm), in order of appearance."""
    cells: dict[Cell, list[Result]] = {}
    for result in results:
        cells.setdefault((result.job.level, result.job.person, result.job.arm), []).append(result)
    return cells


def mean(values: Sequence[float]) -> float:
    """Mean of what is a number, NaN without any."""
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def table(results: Sequence[Result]) -> str:
    """Markdown, one row a cell."""
    rows = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    for (level, person, arm), cell in by_cell(results).items():
        decisions = sum(r.decisions for r in cell)
        row = (
            level, person, arm, str(len(cell)), f"{mean([r.in_range for r in cell]):.1%}", f"{mean([r.error for r in cell]):.3f}",
            f"{mean([r.measured_in_range for r in cell]):.0%}", f"{mean([r.charge_mc for r in cell]):.0f}",
            f"{max(r.largest_step_ma for r in cell):.2f}", f"{sum(r.limit_cycle for r in cell)}",
            f"{sum(r.holds for r in cell) / decisions:.0%}" if decisions else "-", str(sum(len(r.fallbacks) for r in cell)),
            str(sum(len(r.trips) for r in cell)), f"{mean([r.last_ma for r in cell]):.2f}", str(sum(len(r.violations) for r in cell)),
        )  # fmt: skip
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows) + "\n"


def given_up(results: Sequence[Result]) -> str:
    """Markdown: of the sessions of each cell in which the controller gave up, how many had by then; cells without any are left out."""
    rows = []
    longest_s = max((r.job.session_s for r in results), default=0)
    minutes = [m for m in GIVEN_UP_BY_MIN if 60 * m <= longest_s]
    for (level, person, arm), cell in by_cell(results).items():
        times_s = [t_s for r in cell for t_s in r.given_up_s]
        if times_s:
            by = [str(sum(t_s <= 60 * m for t_s in times_s)) for m in minutes]
            rows.append("| " + " | ".join((level, person, arm, str(len(cell)), *by, str(len(times_s)))) + " |")
    head = ("level", "person", "arm", "n", *(f"by {m} min" for m in minutes), "ever")
    return (
        "\n".join(("| " + " | ".join(head) + " |", "|" + "---|" * len(head), *rows)) + "\n" if rows else "Nobody was given up.\n"
    )


def reasons(results: Sequence[Result]) -> str:
    """Why it held, fell back and tripped, counted over everything."""
    held: Counter[str] = Counter()
    for result in results:
        held.update(result.hold_reasons)
    ended = Counter(reason for r in results for reason in r.fallbacks)
    trips = Counter(reason for r in results for reason in r.trips)
    lines = ["Holds: " + ", ".join(f"{name} {n}" for name, n in held.most_common())]
    lines += [f"Ended {n} times: {reason}" for reason, n in ended.most_common(12)]
    lines += [f"Tripped {n} times: {reason}" for reason, n in trips.most_common(12)]
    return "\n".join(lines) + "\n"


def findings(results: Sequence[Result]) -> str:
    """The claims of the study, each with what was found."""
    cells, lines = by_cell(results), []
    schedule = cells.get(("biomarker", "responder", "schedule"))
    if schedule:
        share, charge = mean([r.in_range for r in schedule]), mean([r.charge_mc for r in schedule])
        lines.append(f"Responders, schedule: in range {share:.1%} with {charge:.0f} mC.")
        for (level, person, arm), cell in cells.items():
            if level == "biomarker" and person == "responder" and arm not in ("schedule", "none", "sham"):
                mine, used = mean([r.in_range for r in cell]), mean([r.charge_mc for r in cell])
                lines.append(f"- {arm}: {100 * (mine - share):+.1f} points in range with {used / charge:.0%} of its charge")
    inverted = [r for r in results if r.job.person == "inverted" and r.job.arm.endswith("_lower")]
    if inverted:
        lines.append(
            f"Inverted, lower_only: largest sample {max(r.largest_ma for r in inverted):.3f} mA in {len(inverted)} sessions; "
            f"{sum(len(r.violations) for r in inverted)} violations."
        )
    for (_, person, arm), cell in cells.items():
        if person in ("inverted", "non_responder") and arm in WITHIN_BOUNDS:
            safe = sum(r.last_ma <= 0.0005 for r in cell)
            lines.append(f"{person} × {arm} (within bounds): {safe} of {len(cell)} sessions ended in the safe state (0 mA).")
    for (level, person, arm), cell in cells.items():
        other = cells.get(("biomarker", person, arm))
        if level == "sample" and other:
            at_biomarker = {r.job.seed: r.in_range for r in other}
            pairs = [(r.in_range, at_biomarker[r.job.seed]) for r in cell if r.job.seed in at_biomarker]
            lines.append(f"Two levels, {person} × {arm}, {_apart(pairs)}")
    bad = [r for r in results if r.violations]
    lines.append(f"Oracle (S1, S5, S8): {len(bad)} of {len(results)} sessions with a violation.")
    lines += [f"- {r.job}: {r.violations[0]}" for r in bad[:10]]
    for level in ("biomarker", "sample"):
        ran = [r for r in results if r.job.level == level]
        if ran:
            speed = sum(r.seconds for r in ran) / max(sum(r.cpu_s for r in ran), 1e-9)
            how = {True: "compiled", False: "interpreted"}
            n_compiled = sum(r.compiled for r in ran)
            code = how[n_compiled > 0] if n_compiled in (0, len(ran)) else f"{n_compiled} of them compiled"
            lines.append(
                f"{level.capitalize()} level: {len(ran)} sessions, {speed:.0f} × real time per core (processor time; {code})."
            )
    return "\n".join(lines) + "\n"


def _apart(pairs: Sequence[tuple[float, float]]) -> str:
    """Time in range at sample and at biomarker level, the same seeds, and how far apart: mean paired difference, 95 % interval."""
    whole, fast = mean([p[0] for p in pairs]), mean([p[1] for p in pairs])
    differences = [100.0 * (p[1] - p[0]) for p in pairs]
    middle = mean(differences)
    error = math.nan
    if len(pairs) > 1:
        error = math.sqrt(sum((d - middle) ** 2 for d in differences) / (len(pairs) - 1) / len(pairs))
    return f"the same {len(pairs)} seeds: in range {whole:.1%} and {fast:.1%} ({middle:+.1f} ± {1.96 * error:.1f} points apart)"


def figure(results: Sequence[Result], person: str) -> str:
    """An SVG of one kind of person: charge across, time in range up, a dot a session, a ring an arm's mean."""
    colors = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#7f7f7f")
    cells = {arm: cell for (level, who, arm), cell in by_cell(results).items() if level == "biomarker" and who == person}
    most = max((r.charge_mc for cell in cells.values() for r in cell), default=1.0) or 1.0

    def at(charge: float, share: float) -> tuple[float, float]:
        return 60 + 480 * charge / most, 330 - 290 * share

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="780" height="390" font-family="sans-serif" font-size="12">',
        '<rect width="780" height="390" fill="white"/>',
        f'<text x="60" y="20">{person}: charge (mC) across, time in range up; a ring is an arm\'s mean</text>',
        '<path d="M60 40V330H540" fill="none" stroke="#333"/>',
        f'<text x="500" y="350">{most:.0f}</text><text x="30" y="44">100%</text><text x="40" y="334">0</text>',
    ]
    for number, (arm, cell) in enumerate(cells.items()):
        color = colors[number % len(colors)]
        for r in cell:
            x, y = at(r.charge_mc, r.in_range)
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}" opacity="0.5"/>')
        x, y = at(mean([r.charge_mc for r in cell]), mean([r.in_range for r in cell]))
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="560" y="{60 + 20 * number}" fill="{color}">{arm}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def write(results: Sequence[Result], folder: Path, heading: str) -> Path:
    """study.md, and one figure a kind of person; the path of study.md."""
    folder.mkdir(parents=True, exist_ok=True)
    persons = list(dict.fromkeys(r.job.person for r in results))
    for person in persons:
        (folder / f"{person}.svg").write_text(figure(results, person), encoding="utf-8")
    page = folder / "study.md"
    page.write_text(
        f"# {heading}\n\n{findings(results)}\n{table(results)}\n## Given up\n\n{given_up(results)}\n{reasons(results)}",
        encoding="utf-8",
    )
    return page
