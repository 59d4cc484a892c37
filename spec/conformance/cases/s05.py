"""S5: failed and cancelled futures."""

from __future__ import annotations

from ..check import same
from ..registry import case
from ..trial import Trial


@case("S5.1", "S5.7")
def failure_ends_who_does_not_look(t: Trial) -> None:
    """An application that does not look at the future, which fails, does not go on, and the client gets a 500."""
    c = t.park("s05.not_looked_at")
    t.fail()
    same(c.response().status, 500, "the status")
    same(t.events(), ["parking"], "what the application did")
