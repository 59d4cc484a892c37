"""A small blog: users register, log in, write posts with a picture.  After Flask's tutorial, in one package."""

import os

from flask import Flask, Response, session, stream_with_context, url_for


def create_app(config=None):
    app = Flask(__name__, instance_path=os.environ["FLASKR_INSTANCE"])
    app.config.from_mapping(SECRET_KEY="for tests only", DATABASE=os.path.join(app.instance_path, "flaskr.sqlite"))
    app.config.update(config or {})
    os.makedirs(app.instance_path, exist_ok=True)

    from . import auth, blog, db

    db.init_app(app)
    app.register_blueprint(auth.bp)
    app.register_blueprint(blog.bp)
    app.add_url_rule("/", endpoint="index")

    @app.get("/hello")
    def hello():
        return "Hello, World!"

    @app.get("/json")
    def json():
        return {"url": url_for("hello", _external=True), "ünï": ["cöde", 1, None]}

    @app.get("/stream")
    def stream():
        """Streams with the request's context kept."""

        def lines():
            for i in range(5):
                yield f"{i} for {session.get('user_id', 'nobody')}\n"

        return Response(stream_with_context(lines()), mimetype="text/plain")

    @app.get("/error")
    def error():
        raise RuntimeError("raised in a view")

    return app
