"""A Flask application of plain views: `ordinary`, and `app`, which is the same and suspends."""

from __future__ import annotations

import io

import flask
from flask import Blueprint, Flask, Response, abort, g, request, session, stream_with_context
from wsgi_plus.flask import suspending


def create() -> Flask:
    app = Flask(__name__)
    app.secret_key = "secret"
    bp = Blueprint("bp", __name__, url_prefix="/bp")

    @app.before_request
    def before():
        g.before = "before"
        return ("stopped", 403) if "stop" in request.args else None

    @app.after_request
    def after(response):
        response.headers["X-Before"] = g.get("before", "none")
        return response

    @app.errorhandler(LookupError)
    def handler(error):
        return f"handled {type(error).__name__}", 502

    @app.route("/", methods=["GET", "POST", "PUT"])
    def index():
        return {"method": request.method, "args": request.args, "data": request.get_data(as_text=True)}

    @app.get("/text/<int:number>")
    def text(number):
        return "ä" * number

    @app.get("/error")
    def error():
        raise KeyError("error")

    @app.get("/unhandled")
    def unhandled():
        raise RuntimeError("unhandled")

    @app.get("/abort/<int:code>")
    def aborts(code):
        abort(code)

    @app.get("/slash/")
    def slash():
        return flask.redirect("/elsewhere")

    @app.get("/empty")
    def empty():
        return "", 204

    @app.get("/stream")
    def stream():
        @stream_with_context
        def pieces():
            for number in range(5):
                yield f"{number} {request.path} "
                yield b"" if number % 2 else b"bytes "

        return Response(pieces(), mimetype="text/plain")

    @app.get("/broken")
    def broken():
        def pieces():
            yield "first"
            raise RuntimeError("broken")

        return Response(pieces())

    @app.get("/file")
    def file():
        return flask.send_file(io.BytesIO(bytes(range(256)) * 300), mimetype="application/octet-stream")

    @app.get("/source")
    def source():
        return flask.send_file(__file__, conditional=True)

    @app.get("/flash")
    def flash():
        flask.flash("flashed")
        return flask.render_template_string("{{ get_flashed_messages() }} {{ request.path }}")

    @app.get("/cookie")
    def cookie():
        response = flask.make_response("cookie")
        response.set_cookie("a", "b", httponly=True)
        response.set_cookie("c", "d")
        return response

    @bp.get("/")
    def in_blueprint():
        session.get("nothing")
        return f"{request.blueprint} {flask.url_for('bp.in_blueprint')}"

    app.register_blueprint(bp)
    return app


ordinary = create()
app = suspending(create())
