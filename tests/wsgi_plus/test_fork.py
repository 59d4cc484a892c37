"""What a forked child starts afresh, of objects that come and go."""

from __future__ import annotations

import gc
import weakref

import pytest
from byhand import in_child
from wsgi_plus import Semaphore, Topic
from wsgi_plus._fork import forget_in_child

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


@pytest.mark.parametrize("make", [Topic, lambda: Semaphore(1)], ids=["Topic", "Semaphore"])
def test_nothing_is_left_of_one_that_has_gone(make):
    """There may be one for each room of a chat, or for each user: they come and go for as long as the process lives."""

    def alive():
        gc.collect()
        return sum(isinstance(one, weakref.ReferenceType) for one in gc.get_objects())

    before = alive()
    for _ in range(200):
        make()
    assert alive() < before + 100


def test_those_that_are_there_are_called_in_their_order():
    called = []

    class Kept:
        def __init__(self, name):
            self.name = name
            forget_in_child(self.forget)

        def forget(self):
            called.append(self.name)

    kept = [Kept("first"), Kept("second")]
    Kept("gone")
    gc.collect()

    def check():
        assert called == ["first", "second"]

    in_child(check)
    assert called == [] and len(kept) == 2
