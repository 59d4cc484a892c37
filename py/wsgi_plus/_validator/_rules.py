"""What the validator asks for, as one table, and what it raises."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["INSIDE", "OUTSIDE", "RULES", "Rule", "WSGIPlusError", "WSGIPlusWarning"]


class WSGIPlusError(AssertionError):
    """A rule of WSGI+ or of PEP 3333 is broken.  The message begins with the number of the rule.

    ``number`` is that number: "S5.1" of the specification of WSGI+, or "PEP 3333".  ``guilty`` is who broke it, in
    words: "the server ...", "the middleware NAME" or "the application NAME".
    """

    def __init__(self, number: str, guilty: str, what: str) -> None:
        super().__init__(f"{number}: {guilty} {what}")
        self.number = number
        self.guilty = guilty


class WSGIPlusWarning(Warning):
    """The same where there is no call left to raise it from, and where a rule says no more than SHOULD."""


OUTSIDE, INSIDE = "outside", "inside"  # of the validator: what calls it, and what it calls


class Rule(NamedTuple):
    """One thing that can be wrong."""

    by: str  # who breaks it: OUTSIDE or INSIDE
    number: str
    broken: str  # what they did, to go after their name; {name} is what the validator is around
    advice: str
    of_middleware: str = ""  # the number when it is middleware that breaks it, if that is another


RULES = {
    # The call of the application
    "arguments": Rule(
        OUTSIDE, "PEP 3333", "called {name} with other arguments than (environ, start_response)", "They are positional."
    ),
    "environ": Rule(OUTSIDE, "PEP 3333", "passed an environ {what}", "See 'environ Variables' there."),
    "version": Rule(OUTSIDE, "S16.1", "set environ['wsgi_plus.version'] to {what}", "The version is the tuple (1, 0)."),
    "version-changed": Rule(
        OUTSIDE,
        "S16.2",
        "changed environ['wsgi_plus.version'] from {was} to {what}",
        "It speaks of the server: leave it.",
    ),
    "keys": Rule(
        OUTSIDE, "S16.3", "put {what} into environ", "WSGI+ adds nothing but wsgi_plus.version: use a name of your own."
    ),
    "returned": Rule(
        INSIDE, "PEP 3333", "returned {what}, not an iterable of blocks and futures", "Return a list or a generator."
    ),
    # wsgi.input and wsgi.errors
    "input-waits": Rule(
        OUTSIDE, "S14.1", "passed a wsgi.input that reads from a socket", "Receive the body before the call."
    ),
    "input-closed": Rule(
        OUTSIDE, "S14.3", "closed wsgi.input before the request was over", "It is to be readable in all steps."
    ),
    "input-type": Rule(OUTSIDE, "PEP 3333", "passed a wsgi.input whose {what}", "It gives bytes, and a list of lines."),
    "input-misuse": Rule(
        INSIDE, "PEP 3333", "called wsgi.input.{what}", "read(size) and the like; the server closes it."
    ),
    "errors-misuse": Rule(
        INSIDE, "PEP 3333", "called wsgi.errors.{what}", "write takes a str, and the server closes it."
    ),
    # start_response and write
    "start-arguments": Rule(
        INSIDE,
        "PEP 3333",
        "called start_response with other arguments than (status, headers, exc_info=None)",
        "They are positional.",
    ),
    "status": Rule(INSIDE, "PEP 3333", "passed a status {what}", "It is a str such as '200 OK'."),
    "headers": Rule(INSIDE, "PEP 3333", "passed headers {what}", "They are a list of (name, value) tuples of str."),
    "exc-info": Rule(INSIDE, "PEP 3333", "passed {what} as exc_info", "Pass sys.exc_info(), or nothing."),
    "start-twice": Rule(
        INSIDE,
        "S6.4",
        "called start_response again and without exc_info",
        "To replace the response, pass sys.exc_info().",
    ),
    "exc-info-accepted": Rule(
        OUTSIDE,
        "S6.4",
        "accepted a call of start_response with exc_info after the response had begun",
        "Raise what exc_info holds: the client must not take the rest for a whole response.",
    ),
    "write-missing": Rule(
        OUTSIDE, "PEP 3333", "returned {what} from start_response", "Return write(block), a callable."
    ),
    "write-future": Rule(
        INSIDE, "S1.8", "passed a future to write()", "write() returns, so it cannot suspend: yield the future."
    ),
    "write-type": Rule(INSIDE, "PEP 3333", "passed {what} to write()", "It takes bytes."),
    "start-thread": Rule(
        INSIDE,
        "S6.6",
        "called {call} in another thread than its step runs in",
        "Yield a future, and call it when you are resumed.",
    ),
    "start-outside": Rule(
        INSIDE, "S6.6", "called {call} while no step of it ran", "Yield a future, and call it when you are resumed."
    ),
    "start-over": Rule(INSIDE, "S6.6", "called {call} when the request was over", "There is no client to answer."),
    "start-missing": Rule(
        INSIDE, "S6.1", "gave a block and had not called start_response", "There is no status to send."
    ),
    "start-never": Rule(INSIDE, "S6.5", "ended and had not called start_response", "There is no status to send."),
    "length": Rule(
        INSIDE,
        "PEP 3333",
        "said Content-Length {said} and gave {gave} bytes",
        "Futures count nothing, blocks count all.",
    ),
    "content-type": Rule(
        INSIDE, "RFC 9110 8.3", "sends content and no Content-Type", "Say it: clients and servers guess differently."
    ),
    # Items
    "item": Rule(INSIDE, "S1.3", "yielded {what}, neither bytes nor a concurrent.futures.Future", "{hint}"),
    "text": Rule(
        INSIDE,
        "S15.5",
        "made text of a future: a block has {what}",
        "str() is for the body only: what is not bytes is to be yielded as it is.",
    ),
    "early": Rule(
        OUTSIDE,
        "S1.1",
        "asked {name} to go on before the future that it yielded was done",
        "Wait for the future to be done, in no thread, and then go on.",
        "S15.1",
    ),
    "skipped": Rule(
        OUTSIDE,
        "S15.1",
        "asked {name} for the next item and has not handed on the future that it was given",
        "Yield what is not bytes as it is, before you ask for the next item.",
    ),
    "waited": Rule(
        OUTSIDE,
        "S15.8",
        "did not hand on the future that {name} yielded, and has waited for it in the thread",
        "Yield what is not bytes as it is, before you ask for the next item.",
    ),
    "send": Rule(
        OUTSIDE,
        "S4.1",
        "called send()",
        "Go on with next(), or with throw() if the future has failed: most wrappers have no send().",
    ),
    "failure": Rule(
        OUTSIDE,
        "S5.1",
        "asked {name} to go on after a future that failed with {what}, as if it had not",
        "If the iterator has throw, call it with future.exception(); otherwise the request has failed.",
        "S15.3",
    ),
    "throw-other": Rule(
        OUTSIDE,
        "S5.2",
        "called throw with {what}, where the future failed with {failure}",
        "Pass one argument, the very object that future.exception() gives, or raises (S5.3).",
        "S15.2",
    ),
    "throw-none": Rule(
        OUTSIDE,
        "S5.2",
        "called throw with {what}, and no future has failed",
        "throw is for failed futures: end a request with close().",
        "S15.2",
    ),
    "went-on": Rule(
        OUTSIDE,
        "S5.7",
        "asked {name} to go on after it had raised an exception",
        "The request has failed: close it.",
        "S15.3",
    ),
    # Steps, contexts, close
    "overlap": Rule(
        OUTSIDE, "S9.2", "ran a step of {name} while another one ran", "One step ends before the next begins."
    ),
    "context": Rule(
        OUTSIDE,
        "S9.4",
        "ran a step of {name} in another context",
        "Make one contextvars.Context for each request, and run the call, all steps and close() with its run().",
    ),
    "context-shared": Rule(
        OUTSIDE,
        "S9.5",
        "called {name} in a context that has served another request",
        "Make a new contextvars.Context for each request.",
    ),
    "close-missing": Rule(
        OUTSIDE,
        "S7.1",
        "never called close() of what {name} returned",
        "It is owed once to the iterable, whatever has ended the request.",
        "S15.4",
    ),
    "close-twice": Rule(OUTSIDE, "S7.1", "called close() of what {name} returned twice", "It is owed once.", "S15.4"),
    "close-during": Rule(
        OUTSIDE,
        "S7.2",
        "called close() of what {name} returned while a step ran",
        "Call it when the step has returned.",
    ),
    "closed-next": Rule(
        OUTSIDE, "S7.1", "asked {name} for an item after close()", "close() comes after the last step.", "S15.4"
    ),
    "yield-in-close": Rule(
        INSIDE, "S7.6", "yielded while it was closed", "It is not resumed: give what has to be waited for to a thread."
    ),
    "value": Rule(
        INSIDE,
        "PEP 380",
        "ended with a return of {what}, which is lost",
        "A generator yields its blocks; a view that returns its response is to be marked with @suspends.",
    ),
    # What two validators see of what is between them
    "lost": Rule(
        INSIDE,
        "S15.1",
        "ended and has not handed on the future that {inner} yielded",
        "Yield what is not bytes as it is, in its place.",
    ),
    "twice": Rule(
        INSIDE, "S15.1", "handed on the future that {inner} yielded twice", "One item for one item, each in its place."
    ),
    "empty": Rule(
        INSIDE,
        "S15.6",
        "gave an empty block along with the future that {inner} yielded",
        "The future itself says 'nothing yet'.",
    ),
    "choked": Rule(
        INSIDE,
        "S15.5",
        "raised {what} at the future that {inner} yielded",
        "Join, count, compress and encode what is bytes, and yield the rest as it is.",
    ),
    "swallowed": Rule(
        INSIDE,
        "S15.3",
        "ended as if all were well after the future that {inner} yielded had failed with {what}",
        "Let the failure pass, or answer it with start_response(status, headers, sys.exc_info()).",
    ),
}
