"""What mkdocs calls: addresses of pages, and links to files of the checkout that are not pages."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MANUAL = "spec/manual/"
FENCED = re.compile(r"(^```.*?^```)", re.S | re.M)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)|`[^`\n]*`")  # or code that is in no link


def address(path: str) -> str:
    """The manual is the site: its pages are at the top, the specification beside them, the package in a folder."""
    for old, new in ((MANUAL, ""), ("spec/", ""), ("py/", "package/")):
        if path.startswith(old):
            return new + path[len(old) :]
    return path


def on_files(files: Any, config: Any) -> Any:
    for file in files:
        new = address(file.src_uri)
        if new != file.src_uri:
            file.dest_uri = address(file.dest_uri)
            file.__dict__.pop("url", None)
            file.__dict__.pop("abs_dest_path", None)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    folder = PurePosixPath(page.file.src_uri).parent
    base = os.environ.get("SITE_REPOSITORY", "").rstrip("/")

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if target is None or re.match(r"[a-z]+:|#", target):
            return found[0]
        name, hash_, anchor = target.partition("#")
        path = os.path.normpath(folder / name)
        if files.get_file_from_path(path):
            return found[0]
        if files.get_file_from_path(f"{path}/README.md"):
            return f"{image}[{text}]({name.rstrip('/')}/README.md{hash_}{anchor})"
        if not (ROOT / path).exists():
            return found[0]  # which mkdocs says is wrong
        return f"{image}[{text}]({base}/{path}{hash_}{anchor})" if base else text

    parts = FENCED.split(markdown)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))
