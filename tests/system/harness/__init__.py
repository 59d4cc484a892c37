"""What the system tests share: starting the server, talking to it byte by byte, reading its metrics."""
