"""A card in JupyterLab's launcher for each notebook of a run."""

import json
from collections.abc import Sequence
from pathlib import Path

ICON = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
  <rect x="5" y="3" width="22" height="26" rx="3" fill="none" stroke="#0b7285" stroke-width="2.5"/>
  <text x="16" y="22" font-family="sans-serif" font-size="15" text-anchor="middle" fill="#0b7285">{}</text>
</svg>
"""


def write_cards(directory: Path, folder: Path, notebooks: Sequence[Path]) -> None:
    """Describe the cards for jupyter-app-launcher; it reads YAML, of which JSON is a part.

    A title begins with the notebook's number, since JupyterLab shows the first letter of a notebook's card large.
    """
    directory.mkdir()
    cards = []
    for notebook in notebooks:
        number, _, name = notebook.stem.partition("-")
        (directory / f"{notebook.stem}.svg").write_text(ICON.format(int(number)))
        cards.append(
            {
                "title": f"{int(number)} {name.replace('-', ' ').capitalize()}",
                "description": f"Notebook {notebook.name} of this run",
                "type": "jupyterlab-commands",
                "source": [{"label": "Open", "id": "docmanager:open", "args": {"path": str(notebook.relative_to(folder))}}],
                "icon": f"{notebook.stem}.svg",
                "catalog": "Notebook",
            }
        )
    (directory / "jp_app_launcher.yaml").write_text(json.dumps(cards, indent=2))
