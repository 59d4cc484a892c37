"""Has the specification name its cases: a line "*Cases:* ..." after each requirement."""

from __future__ import annotations

import re
import textwrap

from .registry import ENDS, REQUIREMENT, Case

__all__ = ["with_cases"]

LINES = re.compile(r"  \*Cases:\*.*\n(?:  `.*\n)*")


def with_cases(spec: str, cases: list[Case]) -> str:
    """The text with those lines as the cases have it: behind a requirement's first paragraph."""
    spec = LINES.sub("", spec)
    parts = []
    start = 0
    for match in REQUIREMENT.finditer(spec):
        following = ENDS.search(spec, match.end())
        paragraph = spec.find("\n\n", match.end())
        end = min(place for place in (following.start() if following else -1, paragraph + 1) if place > 0)
        names = [case.name for case in cases if match[1] in case.requirements]
        parts.append(spec[start:end])
        if names:
            said = "*Cases:* " + ", ".join(f"`{name}`" for name in names) + "."
            wrapped = textwrap.wrap(said, 118, break_on_hyphens=False, break_long_words=False)
            parts.append("".join(f"  {line}\n" for line in wrapped))
        start = end
    return "".join([*parts, spec[start:]])
