"""The rules of PEP 3333 that the suite looks at, in our words and with numbers of ours.

MUST, SHOULD and MAY are the PEP's, or what follows from its text; the section is named in brackets.
"""

from __future__ import annotations

__all__ = ["RULES"]

RULES = {
    "P1": "environ MUST be a dict itself, with the CGI variables as native strings. [environ Variables]",
    "P2": "environ MUST have the wsgi variables, each of its type. [environ Variables]",
    "P3": "Strings in environ MUST hold bytes as code points below 256, so PATH_INFO is the decoded path. [Unicode Issues]",
    "P4": "Header fields MUST be in environ as HTTP_ variables, CONTENT_TYPE and CONTENT_LENGTH. [environ Variables]",
    "P5": "The application MAY change environ as it likes; the next request MUST NOT see it. [environ Variables]",
    "P6": "wsgi.input MUST have read, readline, readlines and iteration, and end where the body ends. [Input and Error Streams]",
    "P7": "wsgi.errors MUST have write, writelines and flush, and take text. [Input and Error Streams]",
    "P8": "start_response MUST take two positional arguments and an optional third, and give a write callable. "
    "[The start_response() Callable]",
    "P9": "Headers MUST NOT be sent before the first block that is not empty, so that they can be replaced with exc_info. "
    "[The start_response() Callable]",
    "P10": "Once headers are sent, start_response with exc_info MUST raise what it holds. [The start_response() Callable]",
    "P11": "A second start_response without exc_info MUST be an error. [The start_response() Callable]",
    "P12": "Hop-by-hop header fields from the application SHOULD be refused when start_response is called. "
    "[Other HTTP Features]",
    "P13": "Status and headers with control characters MUST NOT reach the client: they can forge a response. "
    "[The start_response() Callable]",
    "P14": "The server MUST complete the headers with what HTTP asks for, such as Date. [The start_response() Callable]",
    "P15": "Headers of the application MUST be sent as they are, repeated ones in order. [The start_response() Callable]",
    "P16": "A block MUST be on its way to the client before the next one is asked for. [Buffering and Streaming]",
    "P17": "close() MUST be called when the request is over, be it finished, failed, or left by the client. "
    "[Specification Details]",
    "P18": "What is given to write MUST be sent before the iterable's blocks, headers first. [The write() Callable]",
    "P19": "Any iterable MUST do: list, tuple, generator, iterator, an object with __iter__ or __getitem__. "
    "[Specification Details]",
    "P20": "Empty blocks MUST be taken, and send nothing. [Specification Details]",
    "P21": "start_response MAY first be called in the first iteration. [The start_response() Callable]",
    "P22": "No more bytes than Content-Length says MUST be sent, and fewer MUST NOT look complete. "
    "[Handling the Content-Length Header]",
    "P23": "A response without Content-Length MUST be framed so that its end can be told. [Handling the Content-Length Header]",
    "P24": "An exception before anything is sent SHOULD become a 500 which shows no traceback. [Error Handling]",
    "P25": "An exception within the body MUST NOT look like the end of it, and SHOULD be logged. [Error Handling]",
    "P26": "A block that is no bytestring MUST be an error. [Unicode Issues]",
    "P27": "The answer to HEAD MUST have no body, and close() is called all the same. [HTTP: RFC 9110 9.3.2]",
    "P28": "Expect: 100-continue MUST be answered, or the request at once. [HTTP 1.1 Expect/Continue]",
    "P29": "wsgi.file_wrapper, where there is one, MUST send the file from where it stands, and close it. "
    "[Optional Platform-Specific File Handling]",
    "P30": "A body in chunked coding SHOULD be readable as one without. [HTTP: RFC 9112 7.1]",
    "P31": "An application that ends without start_response MUST be an error. [The start_response() Callable]",
    "P32": "Two requests of one connection MUST be answered in their order. [HTTP: RFC 9112 9.3.2]",
}
