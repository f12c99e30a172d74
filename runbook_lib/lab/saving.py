"""What JupyterLab saves into a run folder: redacted, as everything that is kept of a run."""

from typing import Any

from runbook_lib.papermill_io import clean
from runbook_lib.redaction import register_environment


def redacted(model: dict[str, Any], **_: Any) -> None:
    """Take the secrets out of a notebook before it is written; a hook of Jupyter Server's contents manager.

    Raises:
        HTTPError: That failed; any other error would have the server save it as it is.
    """
    from tornado.web import HTTPError

    try:
        if model["type"] == "notebook" and model.get("content"):
            register_environment()
            model["content"] = clean(model["content"])
    except Exception as error:
        raise HTTPError(500, "Not saved: the secrets could not be taken out of this notebook.") from error
