"""Segmenters as folders of the Hugging Face Hub: model.safetensors, config.json, README.md. No pickle.

`adaptseg.load_model` takes such a folder too. The library is the extra `adaptseg[hub]`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from adaptseg.atomic import write_bytes, write_text
from adaptseg.data.label_spaces import IGNORE_INDEX
from adaptseg.errors import InputError, require_extra
from adaptseg.segmenter.model_card import model_card
from adaptseg.segmenter.state_dicts import StateDict
from adaptseg.segmenter.weights import EXPORTED, HUB_CARD, HUB_WEIGHTS, segmenter_card, weight_bytes

if TYPE_CHECKING:
    from adaptseg.segmenter.segmenter import Segmenter


AWAY = "the hub cannot be reached, and its cache has no such name"
TIMEOUT_SECONDS = 10.0


def export_card(segmenter: Segmenter, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an exported model says of itself, ready for JSON: enough to rebuild the segmenter.

    Args:
        segmenter: the model.
        facts: of its training, as `adaptseg.export.export.training_facts` finds them, and its `license`.
    """
    card = segmenter_card(segmenter)
    card["model"] |= {"weights": None, "factory_folder": None}  # Perhaps paths of this machine.
    palette = segmenter.label_space.palette[: len(segmenter.label_space)].tolist()
    return {EXPORTED: version("adaptseg"), **facts, **card, "palette": palette, "ignore_index": IGNORE_INDEX}


def write_folder(segmenter: Segmenter, card: Mapping[str, Any], folder: Path) -> None:
    """Write weights, configuration and model card into a folder, which is made where it is not there.

    Raises:
        InputError: the library is not installed.
    """
    require_extra("hub", "a folder for the hub", "huggingface_hub")
    write_bytes(folder / HUB_WEIGHTS, weight_bytes(segmenter, {"format": "pt"}))
    write_text(folder / HUB_CARD, json.dumps(card, indent=2) + "\n")
    write_text(folder / "README.md", model_card(card))


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Return the local copy of a repository of the hub (kept in the hub's cache).

    Raises:
        InputError: there is no such repository, or the network is away.
    """
    require_extra("hub", f"{repo_id}: no such folder, and the hub", "huggingface_hub")
    from huggingface_hub import snapshot_download

    away = is_away(repo_id)
    try:
        patterns = [HUB_CARD, HUB_WEIGHTS]
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=away))
    except Exception as error:  # The library raises many kinds.
        raise _refused(repo_id, "had from the hub", AWAY if away else error) from error


def backbone_state(weights: str) -> StateDict:
    """Return the weights of a transformer of the `transformers` library by hub name or local folder.

    Raises:
        InputError: they cannot be had: no such name or folder, no network, or a file is broken.
    """
    import transformers

    away = not os.path.isdir(weights) and is_away(weights)
    try:
        model: nn.Module = transformers.AutoModel.from_pretrained(weights, local_files_only=away)
    except Exception as error:  # The library raises many kinds.
        reason = AWAY if away else next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"model.weights {weights}: cannot be loaded ({reason}); give a name on the hub, with network, or a folder"
            " with config.json and model.safetensors"
        ) from error
    return model.state_dict()


def is_away(repo_id: str) -> bool:
    """Tell by one request whether the hub cannot be reached; the library itself would try for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(repo_id, timeout=TIMEOUT_SECONDS)
    except HfHubHTTPError:
        return False  # It has answered, and will say the same to the library.
    except Exception:  # Of the library below, which is another one in each version; or this is no name at all.
        return True
    return False


def push_to_hub(segmenter: Segmenter, repo_id: str, card: Mapping[str, Any], private: bool = False) -> str:
    """Make or update a repository of the hub and return its address.

    Raises:
        InputError: there is no network, or the hub refuses: log in with `hf auth login`.
    """
    require_extra("hub", "the hub", "huggingface_hub")
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        write_folder(segmenter, card, Path(folder))
        try:
            api = HfApi()
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=url.repo_id, folder_path=folder, commit_message=f"Written by adaptseg {version('adaptseg')}"
            )
        except Exception as error:  # The library raises many kinds.
            raise _refused(repo_id, "written to the hub", error) from error
    return str(url)


def _refused(name: str, done: str, error: Exception | str) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    cure = "check the name, the network and `hf auth login`, or give a folder"
    return InputError(f"{name}: cannot be {done} ({reason}); {cure}")
