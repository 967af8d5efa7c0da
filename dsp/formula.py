"""Formulas a person writes over biomarkers, such as `ln(alpha@F4) - ln(alpha@F3)`: parsed here, never run as code.

    sum     = product (("+" | "-") product)*            term   = name ["." name] ["@" place]
    product = sign (("*" | "/") sign)*                  place  = label ["-" label] | '"' anything '"'
    sign    = "-" sign | power                          call   = function "(" sum ("," sum)* ")"
    power   = atom ["**" sign]                          atom   = number | term | call | "(" sum ")"

A hyphen inside a place joins a pair (`wpli.alpha@F3-F4`) unless what follows it is no label: in `alpha@F4-ln(...)` and
`alpha@F4-alpha@F3` it is a minus.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

LONGEST = 500
_DEEPEST = 40
_PAIR = r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z][A-Za-z0-9]*(?![A-Za-z0-9_]*\s*[.@(]))?"
_TOKEN = re.compile(
    rf"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<term>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?)(?:@(?P<place>"[^"]{{1,60}}"|{_PAIR}))?
    |(?P<sign>\*\*|[-+*/(),]))""",
    re.VERBOSE,
)


class FormulaError(ValueError):
    """What is wrong with a formula, and at which character (from 1)."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        super().__init__(f"character {position + 1} of {text!r}: {problem}")
        self.position = position


def meant(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """ "; did you mean ...? There are" for a mistyped word, in whatever case; "; there are" if none of the known ones is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[near[0]]!r}? There are" if near else "; there are"


@dataclass(frozen=True, slots=True)
class Term:
    """A biomarker in a formula: `name` as written, `place` an electrode or pair ("" where none is given)."""

    name: str
    place: str
    position: int


def _mean(*values: float) -> float:
    return math.fsum(values) / len(values)


# name: (function, least arguments, most arguments)
FUNCTIONS: dict[str, tuple[Callable[..., float], int, int]] = {
    "ln": (math.log, 1, 1),
    "log10": (math.log10, 1, 1),
    "log2": (math.log2, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "abs": (abs, 1, 1),
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "mean": (_mean, 1, 20),
}
_OPERATORS: dict[str, tuple[Callable[..., float], int]] = {
    "+": (lambda a, b: a + b, 2),
    "-": (lambda a, b: a - b, 2),
    "*": (lambda a, b: a * b, 2),
    "/": (lambda a, b: a / b, 2),
    "**": (math.pow, 2),
    "negative": (lambda a: -a, 1),
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: str
    position: int


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula.

    Attributes
    ----------
    text : str
    terms : tuple of Term
        Each once, in order of first mention.
    program : tuple
        Postfix: a float is put on the stack, an int is the number of a term, (function, n) takes n off it.
    """

    text: str
    terms: tuple[Term, ...]
    program: tuple[float | int | tuple[Callable[..., float], int], ...]

    def value(self, of_terms: Sequence[float]) -> float:
        """The formula's value; NaN where it has none (ln of nothing, division by zero, overflow, a NaN term)."""
        stack: list[float] = []
        for step in self.program:
            if isinstance(step, tuple):
                function, n = step
                arguments = stack[-n:]
                del stack[-n:]
                if any(math.isnan(a) for a in arguments):  # min and max would pass over one
                    return math.nan
                try:
                    stack.append(float(function(*arguments)))
                except (ValueError, ZeroDivisionError, OverflowError):
                    return math.nan
            else:
                stack.append(of_terms[step] if isinstance(step, int) else step)
        return stack[0] if math.isfinite(stack[0]) else math.nan


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._terms: list[Term] = []
        self._program: list[float | int | tuple[Callable[..., float], int]] = []

    def parse(self) -> Formula:
        self._sum()
        if self._peek.kind != "end":
            raise self._error(f"{self._peek.text!r} is not expected here; an operator (+ - * / **) is missing before it")
        if not self._terms:
            raise FormulaError(self._text, 0, "names no biomarker, so it can never change")
        return Formula(self._text, tuple(self._terms), tuple(self._program))

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._peek
        self._at += 1
        return token

    def _error(self, problem: str) -> FormulaError:
        return FormulaError(self._text, self._peek.position, problem)

    def _is(self, *signs: str) -> bool:
        return self._peek.kind == "sign" and self._peek.text in signs

    def _expect(self, sign: str, why: str) -> None:
        if not self._is(sign):
            found = repr(self._peek.text) if self._peek.kind != "end" else "the end"
            raise self._error(f"{sign!r} expected {why}, found {found}")
        self._at += 1

    def _sum(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deeply")
        self._product()
        while self._is("+", "-"):
            operator = self._take().text
            self._product()
            self._program.append(_OPERATORS[operator])
        self._depth -= 1

    def _product(self) -> None:
        self._sign()
        while self._is("*", "/"):
            operator = self._take().text
            self._sign()
            self._program.append(_OPERATORS[operator])

    def _sign(self) -> None:
        negative = 0
        while self._is("-", "+"):
            negative += self._take().text == "-"
        self._atom()
        if self._is("**"):
            self._at += 1
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._error("nested too deeply")
            self._sign()
            self._depth -= 1
            self._program.append(_OPERATORS["**"])
        if negative % 2:
            self._program.append(_OPERATORS["negative"])

    def _atom(self) -> None:
        token = self._peek
        if token.kind == "number":
            self._program.append(float(self._take().text))
        elif token.kind == "term" and token.text in FUNCTIONS and not token.place:
            self._call()
        elif token.kind == "term":
            self._at += 1
            if self._is("("):
                there = ", ".join(sorted(FUNCTIONS))
                raise FormulaError(
                    self._text, token.position, f"{token.text!r} is no function{meant(token.text, FUNCTIONS, 0.7)}: {there}"
                )
            term = next((t for t in self._terms if (t.name, t.place) == (token.text, token.place)), None)
            if term is None:
                term = Term(token.text, token.place, token.position)
                self._terms.append(term)
            self._program.append(self._terms.index(term))
        elif self._is("("):
            self._at += 1
            self._sum()
            self._expect(")", "to close the bracket")
        else:
            found = repr(token.text) if token.kind != "end" else "the end"
            raise self._error(f"a number, a biomarker or a bracket expected, found {found}")

    def _call(self) -> None:
        name = self._take()
        function, least, most = FUNCTIONS[name.text]
        self._expect("(", f"after {name.text}")
        n = 0
        if not self._is(")"):
            self._sum()
            n = 1
            while self._is(","):
                self._at += 1
                self._sum()
                n += 1
        if not least <= n <= most:
            wanted = str(least) if least == most else f"{least}-{most}"
            raise FormulaError(self._text, name.position, f"{name.text} takes {wanted} arguments, not {n}")
        self._expect(")", f"to close {name.text}")
        self._program.append((function, n))


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text) and text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            position = at + len(text[at:]) - len(text[at:].lstrip())
            hint = "; powers are written **" if text[position] == "^" else ""
            hint = "; a place is an electrode (F4), a pair (F3-F4) or quoted" if text[position] == "@" else hint
            raise FormulaError(text, position, f"{text[position]!r} means nothing here{hint}")
        kind = next(k for k in ("number", "term", "sign") if found[k] is not None)
        tokens.append(_Token(kind, found[kind], (found["place"] or "").strip('"'), found.start(kind)))
        at = found.end()
    return [*tokens, _Token("end", "", "", len(text))]


def parse(text: str) -> Formula:
    """Parse a formula.

    Raises
    ------
    FormulaError
        Names the character and what was expected.
    """
    if len(text) > LONGEST:
        raise FormulaError(text[:40] + "...", LONGEST, f"longer than {LONGEST} characters")
    return _Parser(text).parse()
