"""Which letter is it, and is the plate odd? Painted images through the operators `classify` and `anomaly`.

Classify with a network that is trained here on letters of other seeds; anomaly with PatchCore and with PaDiM, fitted
as `winnow models fit-anomaly` fits them, on other normal plates. Neighbours are found by the vectors of the operator
`embed`. Corrupted: a third of the contrast before the damage.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tests.benchmarks.confidence.hard import Alike, Answers, Hard, Part, judged, structs_of
from tests.benchmarks.confidence.letters import LABELS, letters
from tests.benchmarks.confidence.plates import SIDE_PX, plates
from tests.workers.operators.making import opened
from winnow_workers.confidence.features import said
from winnow_workers.confidence.neighbours import SAYS
from winnow_workers.confidence.parts import Floats
from winnow_workers.models.anomaly_fit import AnomalyFit, fit_detector
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Operator, PixelsHWC

Method = Literal["patchcore", "padim"]

COUNTS: dict[Part, int] = {"calibrate": 2000, "held out": 4200, "corrupted": 2400}
SEEDS: dict[Part, int] = {"calibrate": 1, "held out": 2, "corrupted": 2}
CORRUPTED_CONTRAST = 1 / 3
DAMAGES = (0.4, 0.6, 0.8, 1.0, 1.3)  # of letters
FAINTNESS: dict[Method, tuple[float, ...]] = {"patchcore": (2.0, 2.3, 2.7), "padim": (1.2, 1.4, 1.7)}  # of defects
NORMAL_SEED = 100
NORMAL_PLATES = 1500  # that a detector is fitted on
ODD_RATIO = 0.3
_BACKBONE = "builtin/patch_features"
_GREY = Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX, channels=1, mean=(0.5,), std=(0.02,))


@cache
def _classifiers() -> tuple[Operator[Any], Operator[Any]]:
    """The trained network as a classifier and, without its head, as an embedder."""
    from tests.benchmarks.confidence.trained import trained

    with tempfile.TemporaryDirectory() as folder:
        path = str(trained(Path(folder), ["classify"])["classify"])
        return opened("classify", path), opened("embed", path)


@cache
def _detectors(method: Method) -> tuple[Operator[Any], Operator[Any]]:
    """A fitted detector, and an embedder; both over networks with random weights."""
    normal = [one.pixels for one in plates(NORMAL_PLATES, 1.0, NORMAL_SEED, odd=0.0)]
    fit = AnomalyFit(method=method)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{method}.safetensors"
        path.write_bytes(_backbone())
        fitted = fit_detector(resolve_model(str(path)), len(normal), lambda number, _side_px: normal[number], fit)
        path.write_bytes(fitted.data)
        return opened("anomaly", str(path)), opened("embed", "builtin/small_embedder", weights={"random": 0})


def _backbone() -> bytes:
    """A model file of builtin/patch_features for grey plates; its weights are random."""
    network = build_network(_BACKBONE, {"channels": 1}, n_labels=None, seed=0)
    card = ModelCard(architecture=_BACKBONE, arguments={"channels": 1}, preprocessing=_GREY)
    return encode_model(network.state_dict(), card)


def _letters(part: Part, strength: float) -> Answers:
    made = letters(COUNTS[part], strength, SEEDS[part], contrast=_contrast(part))
    truths = [{"label": LABELS[one.label]} for one in made]
    classify, embed = _classifiers()
    pixels = [one.pixels for one in made]
    structs = structs_of(classify, pixels)
    return _beside("classify", structs, truths, _vectors(embed, pixels), [str(one["label"]) for one in truths])


def _plates(method: Method, part: Part, faintness: float) -> Answers:
    made = plates(COUNTS[part], faintness, SEEDS[part], odd=ODD_RATIO, contrast=_contrast(part))
    truths = [{"is_anomalous": one.is_odd} for one in made]
    anomaly, embed = _detectors(method)
    pixels = [one.pixels for one in made]
    structs = structs_of(anomaly, pixels)
    words = [str(one.is_odd).lower() for one in made]
    found = _beside("anomaly", structs, truths, _vectors(embed, pixels), words)
    p_values, odd = (np.array([one[name] for one in structs]) for name in ("p_value", "is_anomalous"))
    return replace(found, others={"the p-value as it is (1 - p where odd)": np.where(odd, 1.0 - p_values, p_values)})


def _beside(
    operator: str,
    structs: Sequence[dict[str, Any]],
    truths: Sequence[dict[str, Any]],
    vectors: Floats,
    true_words: Sequence[str],
) -> Answers:
    words = said(operator, pa.array([{SAYS[operator]: one[SAYS[operator]]} for one in structs]))
    return replace(judged(operator, structs, truths), alike=Alike(vectors, words, np.array(true_words)))


def _vectors(embed: Operator[Any], pixels: Sequence[PixelsHWC]) -> Floats:
    return np.array([one["vector"] for one in structs_of(embed, pixels)], np.float64)


def _contrast(part: Part) -> float:
    return CORRUPTED_CONTRAST if part == "corrupted" else 1.0


def tasks() -> list[Hard]:
    """Classify, and anomaly by each method."""
    letters_setup = "26 painted letters of 28 px under damage of up to {}, each painted once"
    plates_setup = f"painted plates of 48 px, {ODD_RATIO:.0%} with a defect {{}} times fainter, each painted once"
    return [
        Hard("classify", "classify", letters_setup, DAMAGES, _letters),
        *(
            Hard(
                f"anomaly ({method})",
                "anomaly",
                f"{plates_setup}, false alarms 0.01",
                ladder,
                lambda part, faintness, method=method: _plates(method, part, faintness),  # type: ignore[misc]
            )
            for method, ladder in FAINTNESS.items()
        ),
    ]
