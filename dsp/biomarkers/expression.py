"""A person's own biomarkers: formulas over the others, such as `ln(alpha@F4) - ln(alpha@F3)`.

A term is a biomarker as the table names it (`band_power.alpha@F4`, `iaf.peak`, `wpli.alpha@F3-F4`); a band alone
(`alpha@F4`) is that band's power. What the line computes anyway is taken from there, with its settings; a biomarker that
config.yaml does not list is computed with its defaults for the formula alone. A value is as good as its worst term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, field_validator

from dsp.biomarkers.band_power import DEFAULT_BANDS
from dsp.electrodes import canonical
from dsp.formula import Formula, FormulaError, Term, meant, parse
from dsp.hop import Biomarker, Hop, SampleNeed, electrode
from dsp.spectrum import SpectrumNeed
from eegloop import plugins
from eegloop.closed import Closed
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import F64, U8, BiomarkerColumn, Grade, StreamInfo

MOST = 40
UNDEFINED = "undefined"
# Columns that are not called after their module.
_MODULE_OF = {"prefrontal_asymmetry": "faa"}


class Settings(Closed):
    """Names, formulas and units."""

    formulas: dict[str, str] = Field(
        {"alpha_asymmetry": "ln(alpha@F4) - ln(alpha@F3)"},
        description="name: formula over biomarkers with + - * / **, brackets, ln log10 log2 exp sqrt abs min max mean",
    )
    units: dict[str, str] = Field({}, description="name: unit shown with the value, up to 12 characters; 1 where none is given")

    @field_validator("formulas")
    @classmethod
    def _formulas(cls, formulas: dict[str, str]) -> dict[str, str]:
        if not 1 <= len(formulas) <= MOST:
            raise ValueError(f"{len(formulas)} formulas; 1-{MOST} are possible")
        for name, text in formulas.items():
            if not name.isidentifier() or len(name) > 40:
                raise ValueError(f"formula {name!r}: a name is up to 40 letters, digits and _")
            try:
                formula = parse(text)
                for term in formula.terms:
                    _module(term, formula)
            except FormulaError as error:
                raise ValueError(f"{name}: {error}") from None
        return formulas

    @field_validator("units")
    @classmethod
    def _units(cls, units: dict[str, str]) -> dict[str, str]:
        for name, unit in units.items():
            if not 1 <= len(unit) <= 12:
                raise ValueError(f"unit of {name}: {unit!r} must have 1-12 characters")
        return units


def _full_name(term: Term) -> str:
    return f"band_power.{term.name}" if term.name in DEFAULT_BANDS else term.name


def _module(term: Term, formula: Formula) -> str:
    """The biomarker module a term belongs to; FormulaError (as ValueError) with the place if there is none."""
    head = _full_name(term).split(".")[0]
    head = _MODULE_OF.get(head, head)
    known = [kind for kind in plugins.kinds("biomarker") if kind != "expression"]
    if head not in known:
        hint = meant(head, [*known, *DEFAULT_BANDS])
        there = f"biomarkers {', '.join(known)}; bands {', '.join(DEFAULT_BANDS)}"
        raise FormulaError(formula.text, term.position, f"{head!r} is no biomarker and no band{hint}: {there}")
    return head


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a term's value is: column of the line's row, or of the hidden biomarkers' own row."""

    column: int
    hidden: bool


class Expression:
    """Columns: a formula each. Bound to the line's columns once, before the first hop; computed after all others."""

    def __init__(self, info: StreamInfo, settings: Settings, line: LineSettings) -> None:
        self._info, self._settings, self._line = info, settings, line
        self._formulas = [parse(text) for text in settings.formulas.values()]
        self.columns: tuple[BiomarkerColumn, ...] = ()
        self.needs: tuple[SpectrumNeed | SampleNeed, ...] = ()
        self._hidden: list[tuple[Biomarker, slice]] = []
        self._hidden_columns: tuple[BiomarkerColumn, ...] = ()
        self._places: list[list[_Place]] = []
        self._missing: list[str] = []

    def bind(self, columns: Sequence[BiomarkerColumn]) -> None:
        """Find every term among the line's columns, or build what it needs.

        Raises
        ------
        ConfigError
            Names the formula, the character and what there is.
        """
        self._build_hidden({_MODULE_OF.get(head := c.name.split(".")[0], head) for c in columns})
        for (name, text), formula in zip(self._settings.formulas.items(), self._formulas, strict=True):
            absent = sorted({a for term in formula.terms for a in self._absent(term)})
            places: list[_Place] = []
            if not absent:
                try:
                    places = [self._find(term, formula, columns) for term in formula.terms]
                except FormulaError as error:
                    raise ConfigError(f"biomarkers: expression.formulas.{name}: {error}") from None
            self._missing.append(f"needs {' and '.join(absent)} ({text})" if absent else "")
            self._places.append(places)
        windows = [
            max(((self._hidden_columns if p.hidden else columns)[p.column].window_s for p in places), default=self._line.window_s)
            for places in self._places
        ]
        self.columns = tuple(
            BiomarkerColumn(f"expression.{name}", "n/a", self._settings.units.get(name, "1"), window_s)
            for name, window_s in zip(self._settings.formulas, windows, strict=True)
        )

    def _absent(self, term: Term) -> list[str]:
        """Electrodes of a term that this montage lacks, as far as their names are those of electrodes."""
        labels = self._labels(term)
        return [label for label in labels if electrode(self._info, label) is None and canonical(label) is not None]

    def _labels(self, term: Term) -> list[str]:
        """The electrodes of a place: one, a pair's two, none."""
        if not term.place:
            return []
        one = "-" not in term.place or canonical(term.place) is not None or electrode(self._info, term.place) is not None
        return [term.place] if one else term.place.split("-", 1)

    def _build_hidden(self, listed: set[str]) -> None:
        wanted: dict[str, list[Term]] = {}
        for formula in self._formulas:
            for term in formula.terms:
                kind = _module(term, formula)
                if kind not in listed and not self._absent(term):
                    wanted.setdefault(kind, []).append(term)
        at = 0
        for name, terms in wanted.items():
            module = plugins.find("biomarker", name)
            own: dict[str, object] = {}
            labels = [self._labels(term) for term in terms]
            if "pairs" in module.Settings.model_fields:
                own["pairs"] = tuple(dict.fromkeys(tuple(pair) for pair in labels if len(pair) == 2)) or None
            elif "channels" in module.Settings.model_fields and all(labels):
                own["channels"] = tuple(dict.fromkeys(label for place in labels for label in place))
            built: Biomarker = module.build(self._info, module.Settings(**own), self._line)
            self._hidden.append((built, slice(at, at + len(built.columns))))
            self._hidden_columns += built.columns
            self.needs += built.needs
            at += len(built.columns)
        self._hidden_values, self._hidden_grades = np.full(at, np.nan), np.zeros(at, dtype=np.uint8)

    def _find(self, term: Term, formula: Formula, columns: Sequence[BiomarkerColumn]) -> _Place:
        name = _full_name(term)
        there: list[tuple[_Place, BiomarkerColumn]] = [(_Place(i, False), c) for i, c in enumerate(columns) if c.name == name]
        there += [(_Place(i, True), c) for i, c in enumerate(self._hidden_columns) if c.name == name]
        if not there:
            module = _module(term, formula)
            names = sorted(
                {c.name for c in (*columns, *self._hidden_columns) if _MODULE_OF.get(h := c.name.split(".")[0], h) == module}
            )
            raise FormulaError(
                formula.text, term.position, f"{name!r} is not computed here{meant(name, names)}: {', '.join(names)}"
            )
        if term.place:
            # as it is written, and as this stream calls those electrodes
            own = [i for label in self._labels(term) if (i := electrode(self._info, label)) is not None]
            for wanted in (term.place, "-".join(self._info.channels[i] for i in own)):
                for place, column in there:
                    if column.channel.strip().lower() == wanted.strip().lower():
                        return place
            places = [c.channel for _, c in there]
            hint = meant(term.place, places)
            raise FormulaError(formula.text, term.position, f"{name} has no {term.place!r}{hint}: {', '.join(places)}")
        whole = [place for place, column in there if column.channel == "n/a"] or [place for place, _ in there]
        if len(whole) > 1:
            known = ", ".join(f"{term.name}@{c.channel}" for _, c in there)
            raise FormulaError(formula.text, term.position, f"{name} has many values; say which: {known}")
        return whole[0]

    def compute(self, hop: Hop, values: F64, grades: U8) -> tuple[str, ...]:
        hidden_reasons: tuple[str, ...] = ()
        self._hidden_grades[:] = Grade.GOOD  # as the line hands a row over: a biomarker writes what is not good
        for biomarker, span in self._hidden:
            hidden_reasons += biomarker.compute(hop, self._hidden_values[span], self._hidden_grades[span])
        reasons: list[str] = []
        for i, (formula, places) in enumerate(zip(self._formulas, self._places, strict=True)):
            values[i], grades[i] = math.nan, Grade.INVALID
            if self._missing[i]:
                reasons.append(self._missing[i])
                continue
            worst, reason, of_terms = int(Grade.GOOD), "", []
            for place in places:
                row = self._hidden_values if place.hidden else hop.row_values
                of_terms.append(float(row[place.column]))
                grade = int((self._hidden_grades if place.hidden else hop.row_grades)[place.column])
                if grade > worst:
                    worst, reason = grade, (hidden_reasons if place.hidden else hop.row_reasons)[place.column]
            value = formula.value(of_terms) if worst < Grade.INVALID else math.nan
            if math.isnan(value) and worst < Grade.INVALID:
                worst, reason = int(Grade.INVALID), UNDEFINED
            values[i], grades[i] = value, worst
            reasons.append(reason)
        return tuple(reasons)


def build(info: StreamInfo, settings: Settings, line: LineSettings) -> Expression:
    return Expression(info, settings, line)
