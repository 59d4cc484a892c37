"""No application."""
