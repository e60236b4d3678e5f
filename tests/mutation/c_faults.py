"""Faults in the C dialect, made by rules over the text: comments, strings and conditions of the preprocessor are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .fault import Fault, made

Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], tuple[int, int, str] | None]]

_FLIPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_NAME = r"[A-Za-z_]\w*"
_SCOPE = re.compile(r"^(?:KERNEL\((\w+)|DEVICE [^(]*?\b(\w+)\(|#define (\w+))", re.MULTILINE)


def _whole(text: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], tuple[int, int, str] | None]:
    return lambda m: (*m.span(), text(m))


def _group(number: int, text: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], tuple[int, int, str] | None]:
    return lambda m: (*m.span(number), text(m))


def _swapped(m: re.Match[str]) -> tuple[int, int, str] | None:
    if m[1] == m[3]:
        return None
    return m.start(1), m.end(3), f"{m[3]}{m[2]}{m[1]}"


def _started(m: re.Match[str]) -> tuple[int, int, str]:
    return (*m.span(1), {"0": "1", "1": "0"}.get(m[1], f"0 * ({m[1]})"))


def _negated(m: re.Match[str]) -> tuple[int, int, str] | None:
    end = _closing(m.string, m.end() - 1)
    return (m.end(), end, f"!({m.string[m.end():end]})") if end > 0 else None


def _closing(text: str, at: int) -> int:
    """Return the place of the parenthesis that closes the one at `at`; -1 when the line ends before."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] == "\n":
            return -1
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


def _without_addend(m: re.Match[str]) -> tuple[int, int, str] | None:
    end = _closing(m.string, m.end() - 1)
    if end < 0:
        return None
    parts, depth, last = [], 0, m.end()
    for i in range(m.end(), end):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(m.string[i], 0)
        if m.string[i] == "," and depth == 0:
            parts.append(m.string[last:i])
            last = i + 1
    if len(parts) != 2:
        return None
    return m.start(), end + 1, f"(({parts[0].strip()}) * ({parts[1].strip()}))"


RULES: tuple[Rule, ...] = (
    ("bound", re.compile(r" (<=|>=|<|>) "), _group(1, lambda m: _FLIPPED[m[1]])),
    ("comparison", re.compile(r" (==|!=) "), _group(1, lambda m: _FLIPPED[m[1]])),
    ("off by one", re.compile(r" [-+] 1\b(?![.\w])"), _whole(lambda m: "")),
    ("loop start", re.compile(r"for \([^;=]*= (\w+)[;,]"), _group(1, lambda m: f"{m[1]} + 1")),
    ("wrong sign", re.compile(r"(?<=[\w)\]]) ([-+]) (?=[\w(])"), _group(1, lambda m: "-" if m[1] == "+" else "+")),
    ("dropped term", re.compile(rf" \+ {_NAME}(?: \* {_NAME})*(?=[;,)\]])"), _whole(lambda m: "")),
    ("dropped factor", re.compile(rf"(?<=[\w)\]]) \* {_NAME}\b(?!\()"), _whole(lambda m: "")),
    ("swapped strides", re.compile(rf"(?<=\* )({_NAME})( \+ [^;,?]*?\* )({_NAME})\b"), _swapped),
    ("swapped names", re.compile(rf"(?<=[(,] )({_NAME})(, )({_NAME})(?=[,)])"), _swapped),
    ("wrong start value", re.compile(r"(?<== )(0|1|-?CAT\(\w*INF\w*, ?\w+\)|-?\w*INF\w*|ZERO\(\w+\))(?=[;,])"), _started),
    ("overwritten sum", re.compile(r" (\+=) "), _group(1, lambda m: "=")),
    ("missing barrier", re.compile(r"\bBARRIER\(\);"), _whole(lambda m: ";")),
    ("condition", re.compile(r" (&&|\|\|) "), _group(1, lambda m: "||" if m[1] == "&&" else "&&")),
    ("negated condition", re.compile(r"\bif \("), _negated),
    ("missing statement", re.compile(r"^[ \t]*((?:STORE\([^;]*\)|break|continue|[\w\[\]]+ [-+*]?= [^;{}]*);)[ \t]*$", re.MULTILINE), _group(1, lambda m: ";")),
    ("wrong axis", re.compile(r"\b(?:LOCAL_ID|GROUP_ID|GLOBAL_ID)\(([012])\)"), _group(1, lambda m: "1" if m[1] == "0" else "0")),
    ("maximum for minimum", re.compile(r"\b(?:R_|pnn_)?(max|min|MAX|MIN)(?=[_(])"), _group(1, lambda m: {"max": "min", "min": "max", "MAX": "MIN", "MIN": "MAX"}[m[1]])),
    ("swapped branches", re.compile(r"(?<=\? )([\w.()\[\] *+-]+?)( : )([\w.()\[\] *+-]+?)(?=[;,)]|$)", re.MULTILINE), _swapped),
    ("wrong constant", re.compile(r"(?<= [*/%] )([0-9]+)\b(?![.\w])"), _group(1, lambda m: str(int(m[1]) + 1))),
    ("dropped term", re.compile(r"\bFMA\("), _without_addend),
    ("wrong type", re.compile(r"^[ \t]*(?:const )?(REAL|R|ACC\(\w+\)) \w+(?:\[[^\]]*\])* = ", re.MULTILINE), _group(1, lambda m: "f32")),
)  # fmt: skip


def _masked(text: str) -> str:
    """Return the text with what no fault is made of blanked, at the same places."""

    def blank(m: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", m[0])

    text = re.sub(r'/\*.*?\*/|//[^\n]*|"[^"\n]*"', blank, text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*#[ \t]*(?!define)\w+[^\n]*", blank, text, flags=re.MULTILINE)
    return re.sub(r"^[ \t]*#[ \t]*define[ \t]+\w+(?:\([^)]*\))?", blank, text, flags=re.MULTILINE)


def c_faults(path: str, text: str) -> Iterator[Fault]:
    """Yield every fault the rules make of a file."""
    masked = _masked(text)
    scopes = [(m.start(), next(filter(None, m.groups()))) for m in _SCOPE.finditer(text)]
    taken: set[tuple[int, int, str]] = set()
    for kind, pattern, change in RULES:
        for match in pattern.finditer(masked):
            edit = change(match)
            if edit is None or edit in taken:
                continue
            taken.add(edit)
            scope = next((name for at, name in reversed(scopes) if at <= edit[0]), "file")
            yield made(path, text, *edit, kind, scope, "kernel (C)")
