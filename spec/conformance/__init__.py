"""The conformance suite of WSGI+: see README.md beside this file.  Standard library only, Python 3.10 and newer."""
