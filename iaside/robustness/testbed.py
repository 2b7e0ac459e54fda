"""Published ImageNet models, from published measurements; no network is run.

Accuracy and size are torchvision's, of its own weights. The table of robustness is that of the
ImageNet testbed (Taori et al. 2020), documented in its file in data/published. mCE is computed from
this table alone, AlexNet's errors included: it must not be mixed with the mCE of another table in
one coefficient.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from iaside.tables import CORRUPTIONS

TABLE = Path(__file__).resolve().parents[2] / "data/published/imagenet_testbed.csv"
ALEXNET = "alexnet"  # the row whose errors are 100
PGD = {0.5: "pgd_linf_eps0.5", 2.0: "pgd_linf_eps2"}  # eps in 1/255, 100 steps -> column
ERRORS = [f"on_disk_{name}" for name in CORRUPTIONS]  # accuracies in percent, over severities


def read(path: str | os.PathLike = TABLE) -> pd.DataFrame:
    """The table, a row a model: top-1 accuracies in percent, NaN where nothing was measured.

    Errors: ValueError for a file that is another table.
    Source: Taori et al. 2020.

    >>> len(read()), float(read().loc["resnet50", "val"])
    (335, 76.13)
    """
    table = pd.read_csv(path, comment="#", index_col=0, keep_default_na=False, na_values="")
    needed = {"joins", "val", *PGD.values(), *ERRORS}
    if missing := sorted(needed - set(table)):
        raise ValueError(
            f"{path} is no table of the ImageNet testbed, it lacks {', '.join(missing)}: take the "
            "file of this project's data/published"
        )
    return table


def published_mce(table: pd.DataFrame) -> pd.Series:
    """Mean corruption error of every model, in percent of AlexNet's in the same table.

    NaN where one of the 15 corruptions was not measured.
    Source: Hendrycks and Dietterich 2019, with the table's own AlexNet.

    >>> published_mce(read())[["alexnet", "resnet50"]].round(1).tolist()
    [100.0, 76.5]
    """
    errors = 100 - table[ERRORS]
    return 100 * (errors / errors.loc[ALEXNET]).mean(axis=1, skipna=False)


def join(models: Mapping[str, Mapping], table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table for networks with exactly the same weights.

    models: as a study has them, key -> entry. Only a network whose recipe says under ``weights``
    what weights they are joins, as it does when data/fetch.py saves a library's own: a name says
    nothing of weights. Columns: ``row``, the model in the table; ``mCE``, percent of AlexNet's;
    one for each eps of ``PGD``, accuracy left in percent.

    >>> join({"mine": {"name": "resnet50", "weights": "mine.safetensors"}}, read()).empty
    True
    """
    rows = {weights: name for name, weights in table["joins"].dropna().items()}
    found = {key: rows.get(_weights(entry)) for key, entry in models.items()}
    found = {key: name for key, name in found.items() if name}
    columns = {"mCE": published_mce(table)} | {eps: table[name] for eps, name in PGD.items()}
    joined = pd.DataFrame({"row": found}, dtype=object)
    for name, column in columns.items():
        joined[name] = [float(column[row]) for row in found.values()] or np.empty(0)
    return joined


def of_torchvision(models: Mapping[str, Mapping]) -> pd.DataFrame:
    """What torchvision publishes of networks with its very weights, told by recipes as in ``join``.

    Columns: ``top-1``, ImageNet's validation set, in percent; ``parameters``, a number. Of weights
    that this torchvision does not have, and of timm's, there is no row; nothing is downloaded.

    >>> of_torchvision({"mine": {"name": "resnet50", "weights": "mine.safetensors"}}).empty
    True
    """
    from torchvision.models import get_model_weights  # here: it takes seconds

    rows = {}
    for key, entry in models.items():
        library, _, name = (_weights(entry) or "").partition(":")
        architecture, _, tag = name.partition(".")
        if library == "torchvision":
            try:
                meta = get_model_weights(architecture)[tag].meta
            except (KeyError, ValueError):  # of another version
                continue
            top1 = meta["_metrics"]["ImageNet-1K"]["acc@1"]
            rows[key] = {"top-1": top1, "parameters": meta["num_params"]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["top-1", "parameters"])


def _weights(entry: Mapping) -> str | None:
    """The weights of a network, if its recipe names them."""
    path = Path(entry.get("recipe") or "")
    return json.loads(path.read_text("utf-8")).get("weights") if path.is_file() else None
