"""The cases: a module for each part of the specification, and one or more for PEP 3333."""
