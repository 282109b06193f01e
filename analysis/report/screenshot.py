"""A picture of the report, taken by a headless browser: ``python -m analysis.report.screenshot``.

For the README: ``python -m analysis.report.screenshot results/report/index.html OUT.png``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from experiments.errors import SsaError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class BrowserError(SsaError):
    """There is no browser, or it took no picture."""


def find_browser() -> Path | None:
    """The first headless browser on the path, or None."""
    found = (shutil.which(name) for name in BROWSERS)
    return next((Path(path) for path in found if path), None)


def screenshot(
    page: Path,
    picture: Path,
    *,
    theme: str = "light",
    anchor: str = "",
    size: tuple[int, int] = (1280, 860),
    scale: float = 1.5,
) -> None:
    """Take a picture of a page.

    Args:
        page: the report.
        picture: where to, PNG.
        theme: light or dark.
        anchor: what is behind ``#``: ``table08``, ``cell=quick/table8/full/miou``.
        size: of the window, CSS pixels.
        scale: picture pixels a CSS pixel.

    Raises:
        BrowserError: there is no browser, or it took no picture.
    """
    browser = find_browser()
    if browser is None:
        raise BrowserError(
            "No browser was found to take the picture; on Debian: apt-get install chromium."
        )
    if not page.is_file():
        raise BrowserError(f"{page} does not exist; `./run_all.sh report` writes it.")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise BrowserError(
            "playwright drives the browser and is not installed; `./run_all.sh test --version` "
            "installs what the tests need."
        ) from None
    address = f"{page.resolve().as_uri()}?theme={theme}" + (f"#{anchor}" if anchor else "")
    picture.parent.mkdir(parents=True, exist_ok=True)
    try:
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(
                executable_path=str(browser), args=["--no-sandbox", "--hide-scrollbars"]
            )
            window = chromium.new_page(
                viewport={"width": size[0], "height": size[1]},
                device_scale_factor=scale,
                reduced_motion="reduce",
            )
            window.goto(address)
            window.wait_for_load_state("networkidle")
            window.screenshot(path=str(picture))
            chromium.close()
    except Error as error:
        first = str(error).splitlines()[0]
        raise BrowserError(f"{browser} took no picture of {page}: {first}") from None


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report.screenshot")
    parser.add_argument("page", type=Path, help="results/report/index.html")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--anchor", default="", help="table08, cell=quick/table8/full/miou, …")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    options = parser.parse_args()
    try:
        screenshot(
            options.page,
            options.picture,
            theme=options.theme,
            anchor=options.anchor,
            size=(options.width, options.height),
        )
    except SsaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
