"""Posts, each with a picture that was uploaded."""

import os
import uuid

from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    g,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)

from .auth import login_required
from .db import get_db

bp = Blueprint("blog", __name__)


@bp.route("/")
def index():
    posts = (
        get_db()
        .execute("SELECT p.*, username FROM post p JOIN user u ON p.author_id = u.id ORDER BY created DESC, p.id DESC")
        .fetchall()
    )
    return render_template("blog/index.html", posts=posts)


def save_picture():
    picture = request.files.get("picture")
    if not picture:
        return None
    name = uuid.uuid4().hex
    picture.save(os.path.join(current_app.instance_path, name))
    return name


@bp.route("/create", methods=("GET", "POST"))
@login_required
def create():
    if request.method == "POST":
        if not request.form["title"]:
            flash("Title is required.")
        else:
            db = get_db()
            db.execute(
                "INSERT INTO post (title, body, author_id, picture) VALUES (?, ?, ?, ?)",
                (request.form["title"], request.form["body"], g.user["id"], save_picture()),
            )
            db.commit()
            return redirect(url_for("blog.index"))
    return render_template("blog/edit.html", post=None)


def get_post(id):
    post = get_db().execute("SELECT * FROM post WHERE id = ?", (id,)).fetchone()
    if post is None:
        abort(404, f"Post id {id} doesn't exist.")
    if post["author_id"] != g.user["id"]:
        abort(403)
    return post


@bp.route("/<int:id>/update", methods=("GET", "POST"))
@login_required
def update(id):
    post = get_post(id)
    if request.method == "POST":
        db = get_db()
        db.execute(
            "UPDATE post SET title = ?, body = ? WHERE id = ?", (request.form["title"], request.form["body"], id)
        )
        db.commit()
        return redirect(url_for("blog.index"))
    return render_template("blog/edit.html", post=post)


@bp.route("/<int:id>/delete", methods=("POST",))
@login_required
def delete(id):
    get_post(id)
    db = get_db()
    db.execute("DELETE FROM post WHERE id = ?", (id,))
    db.commit()
    return redirect(url_for("blog.index"))


@bp.route("/pictures/<name>")
def picture(name):
    return send_from_directory(current_app.instance_path, name, mimetype="image/png", conditional=True)
