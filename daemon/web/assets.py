"""The page's files, read once into memory: what is not in the table cannot be asked for."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 16 * 1024 * 1024

_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>eegloop</title></head>
<body>
<h1>eegloop runs, but its page was not built</h1>
<p>Install again with <code>pip install .</code> (or <code>make run</code>) in the project's folder: that builds the page.</p>
<p>To stop stimulation: <code>eegloop stop</code> in a terminal, or take the headset off and switch the stimulator off.</p>
<p>State for machines: <a href="/api/v1/health">/api/v1/health</a>. Research use only.</p>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str
    etag: str
    cache_control: str


def read_assets(folder: Path) -> dict[str, Asset]:
    """Every regular file under `folder` by its path ("index.html", "assets/x.js"); a plain page where it was not built.

    Links are not followed, files over 16 MiB are left out.
    """
    assets = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_FILE_BYTES:
            name = path.relative_to(folder).as_posix()
            assets[name] = _asset(name, path.read_bytes())
    if "index.html" not in assets:
        assets["index.html"] = _asset("index.html", _NOT_BUILT)
    return assets


def _asset(name: str, content: bytes) -> Asset:
    media_type = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}.get(
        Path(name).suffix, mimetypes.guess_type(name)[0] or "application/octet-stream"
    )
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    # Vite puts a hash of the content into the names below assets/; everything else must be asked for again.
    cache_control = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    return Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"', cache_control)
