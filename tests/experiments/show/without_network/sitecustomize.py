"""The RO-Crate context from a file, in a process whose PYTHONPATH has this folder.

roc-validator fetches it from w3id.org; ``RO_CRATE_CONTEXT`` names a copy. Whatever else it asks the
network for goes there.
"""

from __future__ import annotations

import io
import os
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.response import addinfourl

import requests
from urllib3.response import HTTPResponse

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
KIND = "application/ld+json"
_open, _send = urllib.request.OpenerDirector.open, requests.adapters.HTTPAdapter.send


def _copy() -> bytes:
    return Path(os.environ["RO_CRATE_CONTEXT"]).read_bytes()


def _opened(self: urllib.request.OpenerDirector, fullurl: Any, *args: Any, **named: Any) -> Any:
    url = fullurl if isinstance(fullurl, str) else fullurl.full_url
    if not url.startswith(CONTEXT):
        return _open(self, fullurl, *args, **named)
    headers = Message()
    headers["Content-Type"] = KIND
    return addinfourl(io.BytesIO(_copy()), headers, url, 200)


def _sent(self: Any, request: requests.PreparedRequest, *args: Any, **named: Any) -> Any:
    if not str(request.url).startswith(CONTEXT):
        return _send(self, request, *args, **named)
    url = str(request.url)
    raw = HTTPResponse(
        io.BytesIO(_copy()), {"Content-Type": KIND}, 200, preload_content=False, request_url=url
    )
    return self.build_response(request, raw)


urllib.request.OpenerDirector.open = _opened  # type: ignore[method-assign]
requests.adapters.HTTPAdapter.send = _sent  # type: ignore[method-assign]
