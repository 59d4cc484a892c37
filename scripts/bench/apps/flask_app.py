"""Flask says hello."""

from flask import Flask
from wsgi_apps import Timed

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "Hello, world!\n"


timed = Timed(app)
