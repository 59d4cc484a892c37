"""Modules that are loaded in all the ways that the command line allows, and some that cannot be."""
