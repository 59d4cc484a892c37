"""Has modules that are called as applications are, and no application."""

from . import app as app
