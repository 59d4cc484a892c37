"""Channel and Topic: from any thread to the requests that wait."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import Future

import pytest
from byhand import BOUND, at_once, finish, in_child
from wsgi_plus import Channel, ChannelClosed, ChannelOverflow, Topic, deadline, offload
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


def parked(gen):
    """The future on which a generator waits."""
    fut = next(gen)
    assert isinstance(fut, Future) and not fut.done()
    return fut


def take(channel, count):
    return [finish(channel.get()) for _ in range(count)]


# Channel


def test_items_come_in_their_order():
    channel = Channel()
    assert [channel.put(number) for number in range(3)] == [True] * 3
    assert len(channel) == 3 and take(channel, 3) == [0, 1, 2] and len(channel) == 0


def test_who_waits_gets_the_next_item():
    channel = Channel()
    gen = channel.get()
    fut = parked(gen)
    channel.put("item")
    assert fut.done() and finish(gen, after=fut) == "item"


def test_each_item_goes_to_one_of_those_who_wait():
    channel = Channel()
    gens = [channel.get() for _ in range(2)]
    futs = [parked(gen) for gen in gens]
    channel.put(1)
    assert finish(gens[1], after=futs[1]) == 1
    again = next(gens[0])  # another one was quicker
    assert not again.done()
    channel.put(2)
    assert finish(gens[0], after=again) == 2


def test_after_the_end_comes_what_was_there():
    channel = Channel()
    channel.put(1)
    channel.close()
    channel.close()
    assert channel.put(2) is False and take(channel, 1) == [1]
    for _ in range(2):
        with pytest.raises(ChannelClosed, match="nothing more"):
            finish(channel.get())


def test_the_end_wakes_all():
    channel = Channel()
    gens = [channel.get() for _ in range(2)]
    futs = [parked(gen) for gen in gens]
    channel.close()
    for gen, fut in zip(gens, futs, strict=True):
        with pytest.raises(ChannelClosed):
            finish(gen, after=fut)


def test_the_slow_are_dropped():
    channel = Channel(2)
    assert [channel.put(number) for number in range(4)] == [True, True, False, False]
    assert (channel.missed, len(channel)) == (3, 0)
    with pytest.raises(ChannelOverflow, match="not taken out in time"):
        finish(channel.get())


def test_the_slow_are_marked():
    channel = Channel(2, slow="mark")
    assert all(channel.put(number) for number in range(5))
    assert channel.missed == 3 and take(channel, 2) == [3, 4]


def test_left_while_waiting():
    """No item is lost, also if it came in the same moment."""
    channel = Channel()
    leaves, stays = channel.get(), channel.get()
    parked(leaves)
    fut = parked(stays)
    channel.put("item")
    leaves.close()
    assert finish(stays, after=fut) == "item"


def test_nothing_grows_while_nobody_puts_anything_in():
    """As with the deadline of 15 seconds after which README's recipe says that it is still here, for days."""
    channel = Channel()

    def alive():
        return sum(isinstance(one, Future) for one in gc.get_objects())

    first = channel.get()
    gate, before = parked(first), alive()
    for _ in range(100):
        with pytest.raises(TimeoutError):
            finish(deadline(0.0001, channel.get()))
    gc.collect()
    assert alive() < before + 50
    channel.put("item")
    assert finish(first, after=gate) == "item"


def test_within_a_deadline():
    channel = Channel()
    with pytest.raises(TimeoutError):
        finish(deadline(0.01, channel.get()))
    channel.put("item")
    assert finish(deadline(10, channel.get())) == "item"


def test_a_block():
    with Channel() as channel:
        channel.put("item")
    assert channel.put("another") is False and len(channel) == 0
    with pytest.raises(ChannelClosed):
        finish(channel.get())


def test_from_many_threads_to_many():
    channel, taken = Channel(10_000), []

    def put():
        for number in range(200):
            assert channel.put(number)

    def get():
        for _ in range(200):
            taken.append(finish(channel.get()))

    at_once(*[put, get] * 4)
    assert sorted(taken) == sorted([*range(200)] * 4)


@pytest.mark.parametrize("kind", [Channel, Topic])
def test_wrong_settings(kind):
    with pytest.raises(ValueError, match="of 0 items would never have any"):
        kind(0)
    with pytest.raises(ValueError, match='slow is "drop" or "mark", not \'wait\''):
        kind(slow="wait")


@pytest.mark.parametrize("kind", [Channel, Topic])
@pytest.mark.parametrize("limit", [None, "5", float("inf"), float("nan")])
def test_no_limit(kind, limit):
    """Who means that there be none: such a channel would grow with a client that reads nothing."""
    with pytest.raises(TypeError, match=r"limit is a whole number of items, not"):
        kind(limit)


def test_true_when_empty():
    assert Channel() and Topic()


def test_never_waited():
    with pytest.warns(RuntimeWarning, match=r"^channel.get\(\) was never waited for"):
        Channel().get()


def test_a_fork_while_another_thread_is_at_it():
    """The child has a copy of the lock, and not the thread that would let go of it."""
    channel, held, over = Channel(), threading.Event(), threading.Event()
    channel.put("of the parent")
    waits = Channel()
    gate = parked(gen := waits.get())

    def hold():
        with channel._lock:
            held.set()
            over.wait(BOUND)

    def check():
        assert channel.put("item") and take(channel, 2) == ["of the parent", "item"]
        waits.put("in the child")  # which wakes no request of the parent's
        assert not gate.done() and len(waits) == 1
        channel.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(BOUND)
        in_child(check)
    finally:
        over.set()
        thread.join()
    waits.put("item")
    assert take(channel, 1) == ["of the parent"] and finish(gen, after=gate) == "item"


def test_lines_of_a_thread():
    """A call in a pool's thread gives what it finds to the request as it finds it."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        with Channel() as lines:
            job = offload(lambda: [lines.put(b"%d\n" % number) for number in range(3)])
            job.add_done_callback(lambda _: lines.close())
            while True:
                try:
                    yield (yield from lines.get())
                except ChannelClosed:
                    return

    assert Client(app).fetch("/").text == "0\n1\n2\n"


# Topic


def test_all_subscribers_get_it():
    topic = Topic()
    with topic.subscribe() as one:
        assert topic.publish("first") == 1
        with topic.subscribe() as two:
            assert topic.publish("second") == 2 and len(topic) == 2
            assert (take(one, 2), take(two, 1)) == (["first", "second"], ["second"])
    assert topic.publish("third") == 0 and len(topic) == 0


def test_a_thousand_with_one_call():
    topic = Topic()
    channels = [topic.subscribe() for _ in range(1000)]
    gens = [channel.get() for channel in channels]
    futs = [parked(gen) for gen in gens]
    assert topic.publish("item") == 1000
    assert {finish(gen, after=fut) for gen, fut in zip(gens, futs, strict=True)} == {"item"}


def test_a_slow_subscriber_is_dropped():
    topic = Topic(limit=1)
    with topic.subscribe() as slow, topic.subscribe() as quick:
        assert topic.publish(1) == 2
        take(quick, 1)
        assert topic.publish(2) == 1 and len(topic) == 1
        assert take(quick, 1) == [2]
        with pytest.raises(ChannelOverflow):
            finish(slow.get())


def test_a_slow_subscriber_is_marked():
    topic = Topic(limit=1, slow="mark")
    with topic.subscribe() as slow:
        assert [topic.publish(number) for number in range(3)] == [1, 1, 1]
        assert (slow.missed, take(slow, 1)) == (2, [2])


def test_a_subscriber_that_is_forgotten():
    topic = Topic()
    topic.subscribe()
    gc.collect()
    assert len(topic) == 0 and not topic._channels


def test_the_end_of_a_topic():
    topic = Topic()
    with topic.subscribe() as messages:
        topic.publish("last")
        topic.close()
        assert topic.publish("too late") == 0
        assert take(messages, 1) == ["last"]
        for channel in (messages, topic.subscribe()):
            with pytest.raises(ChannelClosed):
                finish(channel.get())
    assert len(topic) == 0


def test_published_while_they_come_and_go():
    topic, stop = Topic(slow="mark"), threading.Event()

    def publish():
        while not stop.is_set():
            topic.publish("item")

    def come_and_go():
        try:
            for _ in range(100):
                with topic.subscribe() as messages:
                    assert finish(deadline(10, messages.get())) == "item"
        finally:
            stop.set()

    at_once(publish, come_and_go)
    assert len(topic) == 0


def test_a_fork_while_there_are_subscribers():
    topic = Topic()
    with topic.subscribe() as messages:

        def check():
            assert topic.publish("in the child") == 0
            with topic.subscribe() as own:
                assert topic.publish("item") == 1 and take(own, 1) == ["item"]
            messages.close()

        in_child(check)
        assert topic.publish("item") == 1 and take(messages, 1) == ["item"]


def test_the_client_leaves():
    topic = Topic()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        with topic.subscribe() as messages:
            while True:
                yield b"data: %b\n\n" % (yield from messages.get())

    request = Client(app).get("/")
    assert request.parked is not None and len(topic) == 1
    topic.publish(b"hello")
    assert request.resume().body == b"data: hello\n\n"
    request.disconnect()
    assert len(topic) == 0
