"""The rules of PEP 3333 that the suite looks at, in our words and with numbers of ours.

MUST, SHOULD and MAY are the PEP's, or what follows from its text, or those of the HTTP that it rests on; the section is
named in brackets.  What the PEP forbids to applications and leaves open for servers is a rule only where the client
would be told something untrue.
"""

from __future__ import annotations

__all__ = ["RULES"]

RULES = {
    "P1": "environ MUST be a dict itself, with the CGI variables as native strings. [environ Variables]",
    "P2": "environ MUST have the wsgi variables, each of its type. [environ Variables]",
    "P3": "Strings in environ MUST hold bytes as code points below 256, so PATH_INFO is the decoded path. [Unicode "
    "Issues]",
    "P4": "Header fields MUST be in environ as HTTP_ variables, CONTENT_TYPE and CONTENT_LENGTH. [environ Variables]",
    "P5": "The application MAY change environ as it likes; the next request MUST NOT see it. [Specification Details]",
    "P6": "wsgi.input MUST have read(size), readline, readlines and iteration, and give the body. [Input and Error "
    "Streams]",
    "P7": "wsgi.errors MUST have write, writelines and flush, and what is written must be found. [Input and Error "
    "Streams]",
    "P8": "start_response MUST take two positional arguments and an optional third, and give a write callable. [The "
    "start_response() Callable]",
    "P9": "Headers MUST NOT be sent before the first block that is not empty, so that they can be replaced with "
    "exc_info. [The start_response() Callable]",
    "P10": "Once headers are sent, start_response with exc_info MUST raise. [The start_response() Callable]",
    "P11": "A second start_response without exc_info MUST be an error. [The start_response() Callable]",
    "P12": "Hop-by-hop header fields from the application SHOULD be an error. [The start_response() Callable]",
    "P13": "CR, LF and NUL in status or headers MUST NOT reach the client: they can forge a response. [The "
    "start_response() Callable; RFC 9110 5.5]",
    "P14": "The server MUST complete the headers with what HTTP asks for, such as Date. [The start_response() "
    "Callable; RFC 9110 6.6.1]",
    "P15": "Status and headers of the application SHOULD be sent as they are, repeated ones in order. [Other HTTP "
    "Features]",
    "P16": "A block MUST be on its way to the client before the next one is asked for. [Buffering and Streaming]",
    "P17": "close() MUST be called when the request is over, be it finished, failed, or left by the client. "
    "[Specification Details]",
    "P18": "What is given to write MUST be sent at once, headers first, and before the iterable's blocks. [The "
    "write() Callable]",
    "P19": "Any iterable MUST do: list, tuple, generator, iterator, an object with __iter__ or __getitem__. "
    "[Specification Details]",
    "P20": "Empty blocks MUST be taken, and send nothing. [Specification Details]",
    "P21": "start_response MAY first be called in the first iteration; the server MUST NOT assume it earlier. "
    "[Specification Details]",
    "P22": "More bytes than Content-Length says MUST NOT be sent: they would be the next response. [Handling the "
    "Content-Length Header; RFC 9112 6.3]",
    "P23": "A response without Content-Length MUST be framed so that its end can be told, as the client's version "
    "allows. [Handling the Content-Length Header; RFC 9112 6]",
    "P24": "An exception before anything is sent MUST NOT look like success: a 500, or no response. [Error Handling]",
    "P25": "An exception within the body MUST NOT look like the end of it, where the framing can tell. [Error "
    "Handling; RFC 9112 8]",
    "P26": "A block that is no bytestring SHOULD be an error; the PEP leaves open what comes of it. [Unicode Issues]",
    "P27": "The answer to HEAD MUST have no body, and close() is called all the same. [RFC 9110 9.3.2]",
    "P28": "A request with Expect: 100-continue MUST be served in one of the PEP's three ways. [HTTP 1.1 "
    "Expect/Continue]",
    "P29": "wsgi.file_wrapper, where there is one, MUST send the file from where it stands, and close it. [Optional "
    "Platform-Specific File Handling]",
    "P30": "A body in chunked coding SHOULD be readable as one without, or be refused with 411. [Other HTTP "
    "Features; RFC 9112 6.3]",
    "P31": "An application that gives a block, or ends, without start_response MUST NOT look like success. "
    "[Specification Details]",
    "P32": "Two requests of one connection MUST be answered in their order, or the second not at all. [RFC 9112 9.3.2]",
    "P33": "wsgi.input SHOULD end where the body ends, give empty bytestrings then, and take read() and "
    "readline(size). [Input and Error Streams]",
    "P34": "wsgi.errors SHOULD take any text without raising. [environ Variables]",
    "P35": "The exception that start_response raises because it is too late SHOULD be the one of exc_info. [The "
    "start_response() Callable]",
    "P36": "Wrong status and headers SHOULD be found when start_response is called. [The start_response() Callable]",
    "P37": "Header values MUST be sent as ISO-8859-1, and a character that is none there MUST be an error. [Unicode "
    "Issues]",
    "P38": "Of the iterable the server MUST use nothing but iteration, len() and close(). [Specification Details]",
    "P39": "Where there is less than Content-Length says, the connection SHOULD be closed. [Handling the "
    "Content-Length Header]",
    "P40": "When Content-Length is reached the server SHOULD stop iterating, and write SHOULD raise. [Handling the "
    "Content-Length Header]",
    "P41": "An exception that aborts the application or its iteration SHOULD be logged. [Error Handling]",
    "P42": "Responses 204 and 304 MUST have no body, whatever the application gives. [RFC 9110 15.3.5, 15.4.5]",
    "P43": "wsgi.multithread, wsgi.multiprocess and wsgi.run_once SHOULD say how it is. [environ Variables]",
    "P44": "start_response SHOULD NOT keep exc_info when it has returned. [The start_response() Callable]",
    "P45": "Blocks SHOULD be taken as binary: no byte, no line ending is changed. [Specification Details]",
    "P46": "A request body that the application does not read MUST NOT be taken for the next request. [RFC 9112 9.3]",
    # To the PEP that is fatal as well; but the answer that the client then gets is the only one there is.
    "P47": "A second start_response without exc_info SHOULD be an error also where the first has raised. [The "
    "start_response() Callable]",
}
