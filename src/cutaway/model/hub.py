"""The Hugging Face hub: is a model there, and if not, why."""

from __future__ import annotations

import os
import re
import socket

from cutaway.core import InputError


def on_hub(name: str, otherwise: str) -> str:
    """The hub id, after making sure that it is in the local cache or that the hub can be reached and has it.

    Raises InputError with what to do `otherwise`, within seconds where nothing answers.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return name
    missing = f"no shipped model or folder {name!r}, and as a hub id it is not in the local cache"
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{missing} while HF_HUB_OFFLINE is set. {otherwise}")
    if not _reachable(constants.ENDPOINT):
        raise InputError(f"{missing} and the hub ({constants.ENDPOINT}) can't be reached. {otherwise}")
    try:
        hf_hub_download(name, "config.json")
    except GatedRepoError:
        raise InputError(
            f"{name} is gated on the hub: accept its terms there and log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{missing}; the hub has none of that name, or it is private. {otherwise}") from None
    except EntryNotFoundError:
        raise InputError(f"{name} on the hub has no config.json, so it is no model that can be loaded.") from None
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"{missing} and the hub can't be reached ({type(error).__name__}). {otherwise}") from None
    return name


def _reachable(endpoint: str) -> bool:
    """Whether the hub's address resolves and answers, in seconds; a proxy is trusted to do so."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    match = re.match(r"(https?)://([^/:]+)(?::(\d+))?", endpoint)
    if match is None:
        return True
    port = int(match[3] or (443 if match[1] == "https" else 80))
    try:
        socket.create_connection((match[2], port), timeout=5).close()
    except OSError:
        return False
    return True
