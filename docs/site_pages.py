"""What mkdocs needs beside the pages of this folder: mkdocs.yml names this file as its hook.

The pages stand on GitHub as they are; a site has a start page (README.md), the changes
(CHANGELOG.md) and the API of ``ssa`` from its docstrings, and what they show or name outside of
``docs/`` is not on it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
#: page of the site → file of the checkout
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
#: what the API page tells of, in this order
MODULES = (
    "ssa",
    "ssa.classifiers.base",
    "ssa.classifiers.build",
    "ssa.classifiers.ssa",
    "ssa.classifiers.ssa_config",
    "ssa.classifiers.softmax",
    "ssa.classifiers.cac",
    "ssa.losses.segmentation",
    "ssa.losses.distillation",
    "ssa.losses.boundary",
    "ssa.heads.classifier_head",
    "ssa.datasets.base",
    "ssa.released.weights",
    "ssa.errors",
)
#: a reference of Sphinx's, as mkdocstrings leaves it: the code says what it refers to
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<(?:code|a)\b)")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: start, changes, API, and pictures from outside of ``docs/``."""
    from mkdocs.structure.files import File

    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        files.append(File.generated(config, page, content=text))
    sections = [f"::: {name}\n" for name in MODULES]
    api = "# API\n\nOf the package `ssa`, from its docstrings.\n\n" + "\n".join(sections)
    files.append(File.generated(config, "api.md", content=api))
    for path in sorted((ROOT / "results" / "reference" / "figures").glob("*.png")):
        files.append(File.generated(config, f"images/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that lead out of ``docs/`` into the path that they name."""
    folder = Path(page.file.src_uri).parent

    def elsewhere(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        path, _, anchor = target.partition("#")
        if mark and (picture := files.get_file_from_path(f"images/{Path(path).name}")):
            up = "../" * len(folder.parts)
            return f"![{text}]({up}{picture.src_uri})"
        place = (folder / path).as_posix()
        inside = Path(re.sub(r"[^/.]+/\.\./", "", place)).as_posix()
        if files.get_file_from_path(inside):
            return match[0]
        named = re.sub(r"^(\.\./)+", "", path)
        made = {source: made for made, source in PAGES.items()}.get(named)
        if made:
            return f"[{text}]({made}{'#' + anchor if anchor else ''})"
        return text if named in text else f"{text} (`{named}`)"

    return _LINK.sub(elsewhere, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take the roles of docstrings from before what they mark."""
    return _ROLE.sub("", html)
