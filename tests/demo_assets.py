"""Where do tests get the demo's corpus and models? Made once, kept in `.cache/` under a digest of what makes them."""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from winnow_jobs.demo.corpus import make_corpus
from winnow_jobs.demo.train import TRAINERS, train_models

_ROOT = Path(__file__).parents[1]
_DEMO = _ROOT / "jobs" / "winnow_jobs" / "demo"
_MODELS = _ROOT / "workers" / "winnow_workers" / "models"
_CORPUS_FILES = ("sources", "sample", "image_files", "corpus")
_GROUP_FILES = ("digits_images", "text_images", "shapes", "textures", "photographs", "bad_images")
_TRAIN_FILES = ("fitting", "train", "train_digits", "train_segmenter", "train_anomaly", "train_embedder")
_MODEL_FILES = ("nets", "patchcore", "preprocess", "build", "model_file")


def demo_corpus_dir() -> Path:
    """A folder with `corpus/` and `truth.parquet`. Read it, never change it."""
    files = [_DEMO / f"{name}.py" for name in (*_CORPUS_FILES, *_GROUP_FILES)]
    place = _place("demo-corpus", files, packages=("numpy", "pillow", "scikit-image", "scikit-learn"))
    with _alone(place):
        if not (place / "truth.parquet").exists():
            unfinished = _emptied(place.with_suffix(".unfinished"))
            make_corpus(unfinished / "corpus")
            unfinished.rename(place)
    return place


def demo_models_dir() -> Path:
    """A folder with the model files of all trainers, `NAME.safetensors`. Read it, never change it."""
    own = [_DEMO / f"{name}.py" for name in (*_CORPUS_FILES, *_GROUP_FILES, *_TRAIN_FILES)]
    files = [*own, *(_MODELS / f"{name}.py" for name in _MODEL_FILES)]
    place = _place("demo-models", files, packages=("numpy", "pillow", "scikit-image", "scikit-learn", "torch"))
    with _alone(place):
        if not all((place / f"{name}.safetensors").exists() for name in TRAINERS):
            unfinished = _emptied(place.with_suffix(".unfinished"))
            train_models(unfinished)
            unfinished.rename(place)
    return place


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time: the other half of the tests may want the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place(kind: str, files: list[Path], *, packages: tuple[str, ...]) -> Path:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    for package in packages:
        digest.update(f"{package}=={version(package)}".encode())
    return _ROOT / ".cache" / kind / digest.hexdigest()[:16]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
