"""The HTML pages: self-contained files with style, script, drawings and audio in them.

A page's content security policy forbids it to load anything. Whatever a model wrote is escaped by the template.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """The page of a template of this folder. `style`, `script` and `script_hash` are filled in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from src.report.examples import shorten

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shorten"] = shorten
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        **values,
    )
