"""Formulas over biomarkers: grammar, errors with their place, values equal to the terms', quality, refusals; never run as code."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dsp.biomarkers import band_power, expression, faa, iaf
from dsp.formula import FUNCTIONS, FormulaError, parse
from dsp.pipeline import Pipeline
from eegloop.config import parse as parse_config
from eegloop.errors import ConfigError
from eegloop.line import LineSettings
from eegloop.signal import Biomarkers, Chunk, Grade, StreamInfo

CHANNELS = ("F3", "F4", "O1", "O2", "Pz")


@pytest.mark.parametrize(
    ("text", "terms", "values", "expected"),
    [
        ("ln(alpha@F4) - ln(alpha@F3)", ["alpha@F4", "alpha@F3"], (20.0, 5.0), math.log(4)),
        ("alpha@F4-alpha@F3", ["alpha@F4", "alpha@F3"], (5.0, 2.0), 3.0),
        ("alpha@F4-ln(beta@Fz)", ["alpha@F4", "beta@Fz"], (5.0, 1.0), 5.0),
        ("alpha@F4-iaf.peak", ["alpha@F4", "iaf.peak"], (12.0, 10.0), 2.0),
        ("wpli.alpha@F3-F4*2", ["wpli.alpha@F3-F4"], (0.25,), 0.5),
        ('alpha@"EEG 001" / 4', ["alpha@EEG 001"], (2.0,), 0.5),
        ("-2**2 * faa", ["faa"], (1.0,), -4.0),
        ("2**3**2 + faa", ["faa"], (0.0,), 512.0),
        ("2**-1 + faa", ["faa"], (0.0,), 0.5),
        ("10 - 4 - 3 - faa", ["faa"], (0.0,), 3.0),
        ("12 / 3 / 2 + faa", ["faa"], (0.0,), 2.0),
        ("(1 + 2) * faa + .5e1", ["faa"], (1.0,), 8.0),
        ("--faa", ["faa"], (3.0,), 3.0),
        ("mean(alpha@F3, alpha@F4, 0) + max(1, faa) - min(2, faa)", ["alpha@F3", "alpha@F4", "faa"], (1.0, 2.0, 5.0), 4.0),
        ("alpha@F3 / (alpha@F3 + theta@F3)", ["alpha@F3", "theta@F3"], (3.0, 1.0), 0.75),
    ],
)
def test_grammar(text: str, terms: list[str], values: tuple[float, ...], expected: float) -> None:
    formula = parse(text)
    assert [f"{t.name}@{t.place}" if t.place else t.name for t in formula.terms] == terms
    assert formula.value(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ln(faa)", 0.0),
        ("ln(faa)", -1.0),
        ("1 / faa", 0.0),
        ("faa ** -1", 0.0),
        ("sqrt(faa)", -1.0),
        ("exp(faa)", 1e9),
        ("faa * 1e300 * 1e300", 1.0),
        ("min(1, faa)", math.nan),
        ("max(faa, 1)", math.nan),
        ("faa ** 0", math.nan),
    ],
)
def test_what_has_no_value_is_nan(text: str, value: float) -> None:
    assert math.isnan(parse(text).value((value,)))


@pytest.mark.parametrize(
    ("text", "character", "says"),
    [
        ("ln(alpha@F4", 12, "')' expected to close ln, found the end"),
        ("alpha@", 6, "a place is an electrode"),
        ("2 +", 4, "found the end"),
        ("alpha beta", 7, "an operator"),
        ("sin(alpha@F3)", 1, "'sin' is no function; there are: abs, exp, ln"),
        ("lnn(alpha@F3)", 1, "'lnn' is no function; did you mean 'ln'? There are: abs"),
        ("Log10(alpha@F3)", 1, "did you mean 'log10'?"),
        ("3 ^ faa", 3, "powers are written **"),
        ("ln()", 1, "takes 1 arguments, not 0"),
        ("ln(faa, faa)", 1, "takes 1 arguments, not 2"),
        ("min(faa)", 1, "takes 2-20 arguments"),
        ("", 1, "found the end"),
        ("1 + 2", 1, "names no biomarker"),
        ("faa)", 4, "not expected"),
        ("(" * 60 + "faa", 41, "nested too deeply"),
        ("2**" * 60 + "faa", 121, "nested too deeply"),
        ("faa + " * 100 + "1", 501, "longer than 500"),
        ("__import__('os').system('true')", 12, "means nothing here"),
        ("faa if faa else 1", 5, "not expected"),
        ("faa == 1", 5, "means nothing here"),
        ("faa; faa", 4, "means nothing here"),
        ("().__class__", 3, "means nothing here"),
        ("()", 2, "expected, found ')'"),
    ],
)
def test_errors_name_the_character(text: str, character: int, says: str) -> None:
    with pytest.raises(FormulaError, match=re.escape(says)) as caught:
        parse(text)
    assert caught.value.position + 1 == character
    assert f"character {character} of" in str(caught.value)


_NUMBERS = st.floats(0.5, 100).map(lambda v: f"{v:.3f}")
_TERMS = st.sampled_from(["a", "b"])
_TREES = st.recursive(
    st.one_of(_NUMBERS, _TERMS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", "-", "*", " / "]), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        st.tuples(st.sampled_from(["ln", "sqrt", "exp", "abs"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda t: f"-({t})"),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_TREES, st.floats(-5, 5), st.floats(-5, 5))
def test_values_equal_pythons_own_arithmetic(text: str, a: float, b: float) -> None:
    names = {name: function for name, (function, _, _) in FUNCTIONS.items()} | {"a": a, "b": b}
    text = f"{text} + a"
    try:
        expected = eval(text, {"__builtins__": {}}, names)  # the test's own check of the parser; the product has no eval
    except (ValueError, ZeroDivisionError, OverflowError):
        expected = math.nan
    formula = parse(text) if len(text) <= 500 else None
    if formula is not None:
        found = formula.value([names[t.name] for t in formula.terms])
        if math.isfinite(expected):
            assert found == pytest.approx(expected, rel=1e-12)
        else:
            assert math.isnan(found)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except FormulaError as error:
        assert 0 <= error.position <= len(text)


def rows(formulas: dict[str, str], *others: tuple[str, object], channels: tuple[str, ...] = CHANNELS) -> list[Biomarkers]:
    rng = np.random.default_rng(5)
    x = 10 * rng.standard_normal((250 * 40, len(channels)))
    x[:, -1] += 20 * np.sin(2 * np.pi * 10 * np.arange(len(x)) / 250)
    info = StreamInfo("t", "t", 250.0, channels, ("eeg",) * len(channels))
    marks = [("expression", expression.Settings(formulas=formulas)), *others]
    return Pipeline(info, LineSettings(hop_s=0.5), marks).push(Chunk(x.astype(np.float32), 0, 0.0, 0.0))


def test_columns_are_the_formulas_of_what_the_line_computes() -> None:
    marks = [("band_power", band_power.Settings(window_s=1.0)), ("iaf", iaf.Settings(window_s=8, channels=("Pz",)))]
    found = rows({"shift": "alpha@F4 - alpha@F3", "slow": "iaf.peak@Pz / 2"}, *marks)
    assert [c.name for c in found[0].columns[-2:]] == ["expression.shift", "expression.slow"]
    assert found[0].columns[-2].window_s == 1.0
    compared = 0
    for row in found:
        for name, expected in (
            ("shift", row.values[row.find("band_power.alpha", "F4")] - row.values[row.find("band_power.alpha", "F3")]),
            ("slow", row.values[row.find("iaf.peak", "Pz")] / 2),
        ):
            i = row.find(f"expression.{name}")
            np.testing.assert_equal(row.values[i], expected)
            compared += row.grades[i] == Grade.GOOD
    assert compared > 50


def test_what_the_line_does_not_list_is_computed_for_the_formula() -> None:
    row = rows({"asymmetry": "faa", "own": "ln(alpha@F4) - ln(alpha@F3)", "z": "lempel_ziv@O1"})[-1]
    alone = rows({"asymmetry": "faa"}, ("faa", faa.Settings()))[-1]
    assert len(row.columns) == 3
    assert row.values[0] == pytest.approx(alone.values[alone.find("faa", "F3-F4")], rel=1e-12)
    assert row.values[1] == pytest.approx(row.values[0], rel=1e-12)
    assert row.grades[2] == Grade.GOOD


def test_a_missing_electrode_gives_no_value_and_says_which() -> None:
    row = rows({"front": "alpha@Fz - alpha@Cz", "there": "alpha@Pz"})[-1]
    assert np.isnan(row.values[0]) and row.grades[0] == Grade.INVALID
    assert row.reasons[0] == "needs Cz and Fz (alpha@Fz - alpha@Cz)"
    assert row.grades[1] == Grade.GOOD


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        (("T3", "T4"), "alpha@T7 / alpha@T8"),
        (("EEG F3-REF", "EEG F4-REF"), "alpha@F4 / alpha@F3"),
        (("EEG Fpz-Cz", "EEG Pz-Oz"), 'alpha@"EEG Pz-Oz" / alpha@"EEG Fpz-Cz"'),
        (("EEG F3-REF", "EEG F4-REF"), "plv.alpha@F3-F4"),
    ],
)
def test_a_term_finds_its_electrode_whatever_the_stream_calls_it(channels: tuple[str, ...], text: str) -> None:
    info = StreamInfo("t", "t", 250.0, channels, ("eeg",) * len(channels))
    pipeline = Pipeline(info, LineSettings(), [("expression", expression.Settings(formulas={"own": text}))])
    rng = np.random.default_rng(1)
    data = 10 * rng.standard_normal((250 * 6, len(channels)))
    row = pipeline.push(Chunk(data.astype(np.float32), 0, 0.0, 0.0))[-1]
    assert row.reasons[row.find("expression.own")] == ("settling" if "plv" in text else "")


def test_no_value_without_a_value() -> None:
    row = rows({"nothing": "ln(alpha@F3 - 1000000)"})[-1]
    assert row.grades[0] == Grade.INVALID and row.reasons[0] == "undefined"
    early = rows({"soon": "alpha@F3"})[0]
    assert early.grades[0] == Grade.INVALID and early.reasons[0] == "settling"


def test_a_value_is_as_good_as_its_worst_term() -> None:
    rng = np.random.default_rng(6)
    x = 10 * rng.standard_normal((250 * 20, 2))
    x[4600:4700, 1] += 400
    info = StreamInfo("t", "t", 250.0, ("F3", "F4"), ("eeg",) * 2)
    formulas = {"both": "alpha@F3 + alpha@F4", "left": "alpha@F3"}
    row = Pipeline(info, LineSettings(), [("expression", expression.Settings(formulas=formulas))]).push(
        Chunk(x.astype(np.float32), 0, 0.0, 0.0)
    )[-1]
    assert row.grades.tolist() == [Grade.SUSPECT, Grade.GOOD]
    assert row.reasons[0] != "" and row.reasons[1] == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alpha@X9", "has no 'X9'; there are: F3, F4, O1, O2, Pz"),
        ("alpha@F44", "has no 'F44'; did you mean 'F4'\\? There are: F3, F4, O1, O2, Pz"),
        ("iaf.pek", "'iaf.pek' is not computed here; did you mean 'iaf.peak'\\? There are: iaf.cog, iaf.maximum, iaf.peak"),
        ("alpha", "many values; say which: alpha@F3"),
    ],
)
def test_what_the_stream_cannot_give_stops_the_start(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        rows({"mine": text})
    assert "expression.formulas.mine: character 1" in str(caught.value)


def test_config_yaml_names_the_line_and_the_character(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "config.yaml").read_text()
    entry = '      - kind: expression\n        formulas: {asymmetry: "ln(alfa@F4) - ln(alpha@F3)"}\n'
    text = text.replace("      - kind: faa\n", "      - kind: faa\n" + entry)
    with pytest.raises(ConfigError, match=r"asymmetry: character 4 of .*'alfa' is no biomarker.*did you mean 'alpha'") as caught:
        parse_config(text, tmp_path / "config.yaml")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "alfa" in row)
    assert f"config.yaml:{line}:" in str(caught.value)
    good = parse_config(text.replace("alfa", "alpha"), tmp_path / "config.yaml")
    assert good.seats[0].biomarkers[-1].kind == "expression"


def test_settings_refuse_bad_names_and_units() -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        expression.Settings(formulas={"my formula": "faa"})
    with pytest.raises(ValidationError, match="1-12 characters"):
        expression.Settings(units={"x": ""})
    with pytest.raises(ValidationError, match="1-40 are possible"):
        expression.Settings(formulas={})
